"""Settings of the step that compares systems on unseen people."""

from typing import Annotated

from pydantic import Field

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.settings import Count, Existing, ExistingOrNone, Positive, Window, settings
from xray2ctpa_core.training.settings.codecs import PerceptualSettings


@settings
class ReconstructionSettings(PerceptualSettings):
    """Volumes that several systems generate from the test studies' radiographs, and their table."""

    latents: Existing = ""
    """Folder of the step latents, whose index lists volumes, radiographs and splits."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs; empty takes the index's own."""
    systems: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """NAME=FOLDER of a bundle or of a run of regressor or prior-denoiser; codec:NAME=FOLDER of a codec."""
    studies: ExistingOrNone = ""
    """Study index of the original radiographs, which only bundles read."""
    split: str = "test"
    """Split whose studies are generated; empty takes all."""
    hu_window: Window = DEFAULT_HU_WINDOW
    """HU window that becomes -1 to 1; that to which the volumes were clipped."""
    sampling_steps: Positive = 50
    """Steps of a diffusion model's sampler; a regressor needs one."""
    samples: Positive = 1
    """Samples for each radiograph; their mean is evaluated."""
    keep_volumes: bool = False
    """Whether volumes are kept: volumes/SYSTEM/STUDY.nii.gz, with an index volumes/SYSTEM/studies.csv."""
    patients: Count = 0
    """Studies to take, from the first; 0 takes all."""
