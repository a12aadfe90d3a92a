"""Settings of the steps that preprocess and encode studies."""

from typing import Literal

from xray2ctpa_core.constants import DEFAULT_BUNDLE, DEFAULT_HU_WINDOW, PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import (
    Count,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    Shape,
    StudySource,
    Weight,
    Window,
    settings,
)


@settings
class CtpaSettings(StudySource):
    """CTs to the volumes that the codec and the classifiers read."""

    spacing_mm: Rate = 1.0
    """Spacing of the isotropic grid on which the lungs are found and cropped."""
    window: Window = PAPER_HU_WINDOW
    """Lower and upper HU; values beyond are clipped."""
    crop: Literal["box", "frame"] = "box"
    """The lungs' bounding box as in the papers, or the square of a radiograph's frame, for networks whose
    volume lies in it."""
    lungs: Literal["auto", "lungmask", "threshold", "none"] = "auto"
    """Segmentation for the lung crop; none keeps the whole scan."""
    lungmask_weights: ExistingOrNone = ""
    """File of lungmask's weights; empty takes torch's cache."""
    margin_mm: Weight = 10.0
    """Margin around the lungs' bounding box; the papers state none. A frame has its own."""
    shape: Shape = (128, 256, 256)
    """Depth, height and width after resizing, before slices are dealt out."""
    interleave: Positive = 2
    """Volumes of every n-th slice made of one scan."""
    workers: Count = 0
    """Processes; 0 for one a processor."""
    cluster: str = ""
    """Workers of Dask's in their place: local:N, slurm:N, slurm:FILE.toml or a scheduler's address."""


@settings
class RadiographSettings(StudySource):
    """Radiographs to what an encoder reads."""

    input: Literal["whole", "frame"] = "whole"
    """The whole radiograph as in the papers, or the square around the lungs that our own encoders read."""
    pixels: Count = 0
    """Pixels along a side; 0 takes 224 of the whole radiograph, 256 of the frame."""
    mean: float = 0.633
    """Of input=whole: subtracted from greys in 0 to 1."""
    std: Rate = 0.181
    """Of input=whole: divides what is left; the papers take 0.633 and 0.181 for every encoder."""
    keep_aspect: bool = True
    """Of input=whole: centred in a black square; false squashes it, as the released scripts do."""
    bundle: str = DEFAULT_BUNDLE
    """Of input=frame: bundle whose lung locator finds the frame."""
    force: bool = False
    """Of input=frame: takes radiographs that the input gate refuses."""
    variants: Count = 0
    """Of input=frame: augmented frames beside the plain one, for training."""
    workers: Count = 0
    """Processes; 0 for one a processor."""
    cluster: str = ""
    """Workers of Dask's in their place: local:N, slurm:N, slurm:FILE.toml or a scheduler's address."""


@settings
class DrrSettings(StudySource):
    """Computed radiographs (DiffDRR) of the CTs, in true size."""

    source_to_detector_mm: Rate = 1200.0
    """Distance of source and detector; the papers' 1200."""
    source_to_centre_mm: Rate = 850.0
    """Distance of source and the scan's middle; the papers' 850."""
    pixels: Positive = 512
    """Pixels along a side of the detector."""
    pixel_mm: Weight = 0.0
    """Pixel at the detector; 0 takes the smallest that shows the whole scan."""
    view: Literal["PA", "AP"] = "PA"
    """PA has the source behind the patient, as most radiographs; the released script has AP."""
    workers: Count = 0
    """Processes; 0 for one a processor."""
    cluster: str = ""
    """Workers of Dask's in their place: local:N, slurm:N, slurm:FILE.toml or a scheduler's address."""


@settings
class LatentsSettings:
    """Volumes to latents, a file a volume, with the statistics of the training studies."""

    studies: Existing = ""
    """Folder of the step ctpa, or a study index whose volumes are on the networks' grid already."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs; empty for none."""
    autoencoder: Existing = ""
    """Folder of the codec: an AutoencoderKL or a VQGAN."""
    hu_window: Window = DEFAULT_HU_WINDOW
    """HU window that becomes -1 to 1; that to which the volumes were clipped."""
    patients: Count = 0
    """Studies to take, from the first; 0 takes all."""
    splits: tuple[str, ...] = ()
    """Splits to take; empty takes all."""
