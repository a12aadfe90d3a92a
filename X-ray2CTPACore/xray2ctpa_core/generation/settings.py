"""Settings of a job: those requested, and those that result with a bundle's defaults."""

from dataclasses import dataclass

from xray2ctpa_core.pipelines.bundle import BundleInfo


@dataclass(frozen=True)
class Settings:
    """Settings of the generation.

    Attributes:
        device, precision: "auto" or a name.
        force: continue if the input is no frontal chest radiograph.
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
    """The requested settings, as `Settings`, with None for the bundle's default."""

    scheduler: str | None = None
    steps: int | None = None
    samples: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    force: bool = False

    def settings(self, info: BundleInfo) -> Settings:
        """The settings, with the bundle's defaults for those that are None."""
        return Settings(
            scheduler=self.scheduler or info.sampling.scheduler,
            steps=self.steps or info.sampling.steps,
            samples=self.samples or info.sampling.samples,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            force=self.force,
        )
