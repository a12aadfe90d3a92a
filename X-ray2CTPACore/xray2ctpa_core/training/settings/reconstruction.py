"""Settings of the step that compares systems on unseen people."""

from typing import Annotated

from pydantic import Field

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.settings import Count, Existing, ExistingOrNone, Positive, Window, settings
from xray2ctpa_core.training.settings.codecs import PerceptualSettings


@settings
class ReconstructionSettings(PerceptualSettings):
    """Volumes of the test studies from their radiographs by several systems, and the table of them."""

    latents: Existing = ""
    """Folder of the step latents, whose index lists volumes, radiographs and splits."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs; empty takes the index's own."""
    systems: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """NAME=FOLDER of each: a bundle, a run of regressor or prior-denoiser, or codec:NAME=FOLDER of a codec
    alone."""
    studies: ExistingOrNone = ""
    """Study index of the radiographs' own files, which bundles read; needed by bundles alone."""
    split: str = "test"
    """Split whose studies are generated; empty takes all."""
    hu_window: Window = DEFAULT_HU_WINDOW
    """HU window that becomes -1 to 1; that to which the volumes were clipped."""
    sampling_steps: Positive = 50
    """Steps of a diffusion model's sampler; a regressor takes one."""
    samples: Positive = 1
    """Samples of each radiograph, whose mean is judged."""
    patients: Count = 0
    """Studies to take, from the first; 0 takes all."""
