"""How a job generates: what was asked for, and what that means with a bundle."""

from dataclasses import dataclass

from xray2ctpa_core.pipelines.bundle import BundleInfo


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


@dataclass(frozen=True)
class Wishes:
    """What a user asks for; as `Settings`, with None for the bundle's own."""

    scheduler: str | None = None
    steps: int | None = None
    samples: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    force: bool = False

    def settings(self, info: BundleInfo) -> Settings:
        """With the bundle's own where nothing else is asked for."""
        return Settings(
            scheduler=self.scheduler or info.sampling.scheduler,
            steps=self.steps or info.sampling.steps,
            samples=self.samples or info.sampling.samples,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            force=self.force,
        )
