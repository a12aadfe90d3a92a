"""How a job generates."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How to generate.

    Attributes:
        device, precision: "auto" or by name.
        force: go on where the input is no frontal chest radiograph.
    """

    scheduler: str
    steps: int
    samples: int
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    force: bool = False
