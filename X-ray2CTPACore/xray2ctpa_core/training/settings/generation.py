"""Settings of the steps that generate volumes and classify them."""

from typing import Literal

from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import Count, Existing, ExistingOrNone, Positive, Weight, Window, settings


@settings
class GenerateSettings:
    """A generated volume for each real one, from its radiograph."""

    denoiser: Existing = ""
    """Folder of the step paper-denoiser."""
    latents: Existing = ""
    """Folder of the step latents, whose index lists the cases."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs; empty takes those of the latents' index."""
    autoencoder: ExistingOrNone = ""
    """Folder of the codec that decodes; nothing is decoded where this and decoder are empty."""
    decoder: ExistingOrNone = ""
    """Folder of a tiny decoder, used in place of the autoencoder."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window to which the latents' volumes were clipped."""
    scheduler: str = "ddpm"
    """Sampler; the release has ddpm with 1000 steps."""
    steps: Positive = 1000
    """Steps of the sampler."""
    spacing: Literal["trailing", "leading"] = "trailing"
    """Timesteps of a short run: trailing includes the last one (pure noise), leading begins below it."""
    largest_latent: Weight = 0.0
    """Bound to which scaled latents are clipped; 0 takes their range (min-max) or 5."""
    guidance_scale: float = 1.0
    """Scale of classifier-free guidance by the radiograph; 1 is none."""
    label_scale: float = 1.0
    """Scale of guidance by the label."""
    batch_size: Positive = 4
    """Cases in a batch; does not change the results."""
    precision: Literal["no", "bf16"] = "no"
    """Precision of the denoiser."""
    seed: int = 1
    """Seed of the noise."""
    split: str = "test"
    """Split whose pairs are listed in pairs.csv; empty for all."""
    only: tuple[str, ...] = ()
    """Splits for which volumes are generated; empty for all."""
    studies: Count = 0
    """Studies of each split; 0 for all."""
    skip: Count = 0
    """Studies to skip at the beginning of each split."""
    volumes: Count = 0
    """Volumes of each study; 0 for all."""
    name: str = ""
    """Name of the arm; empty takes the folder's."""
    dataset: str = ""
    """Data set of the arm."""


@settings
class PredictSettings:
    """Predictions of a trained latent classifier for latents, real or generated: an arm of the tables."""

    classifier: Existing = ""
    """Folder of a pe_classifier of the step latent-classifier."""
    latents: Existing = ""
    """Folder of the step latents or generate, with test cases and, for thresholds, validation cases."""
    batch_size: Positive = 8
    """Cases in a batch; does not change the results."""
    name: str = ""
    """Name of the arm; empty takes the folder's."""
    dataset: str = ""
    """Data set of the arm."""
