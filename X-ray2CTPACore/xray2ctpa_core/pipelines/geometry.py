"""How large the generated volume is, in mm, and how that was found."""

import numpy as np
from scipy import ndimage

from xray2ctpa_core.pipelines.bundle import GeometryRule
from xray2ctpa_core.volume import FrontalFrame, Radiograph, axial_affine

#: Frontal frames of adults, in mm: a film's spacing that says otherwise is not believed.
PLAUSIBLE_SIDE_MM = (180.0, 480.0)


def frame_side_mm(radiograph: Radiograph, frame: FrontalFrame, rule: GeometryRule) -> tuple[float, str]:
    """Side of the frame in the plane through the thorax's middle, and the source of that number.

    The spacing is that at the detector; the thorax's middle is smaller by the magnification, which the file
    states (1 where its spacing is that in the patient) or else is that of source to detector over source to
    middle by ``rule``. Without a believable spacing it is the cohort's mean.
    """
    mean = rule.mean_frame_side_mm, "cohort mean"
    if radiograph.spacing_mm is None:
        return mean
    to_middle = rule.source_to_detector_mm - rule.detector_to_centre_mm
    magnification = radiograph.magnification or rule.source_to_detector_mm / to_middle
    side = frame.side * radiograph.spacing_mm[0] / magnification
    if not PLAUSIBLE_SIDE_MM[0] <= side <= PLAUSIBLE_SIDE_MM[1]:
        return mean
    return side, radiograph.spacing_source


def volume_affine(side_mm: float, rule: GeometryRule) -> np.ndarray:
    """LPS affine of the bundle's grid for a frame of ``side_mm``, its middle at the origin."""
    depth, height, width = rule.grid
    return axial_affine((depth, height, width), (side_mm, rule.depth_fraction * side_mm, side_mm))


def on_frame(hu: np.ndarray, frame: FrontalFrame, target: FrontalFrame) -> np.ndarray:
    """The volume of one frame of a film, resampled to the volume that another frame would have.

    Args:
        hu: (D, H, W), the volume of ``frame``; beyond its edge the nearest voxel is repeated.
        frame, target: squares of the same film, in its pixels.

    Returns:
        (D, H, W) float32 on the grid of ``target``.
    """
    scale = target.side / frame.side
    below = (frame.top + frame.side - target.top - target.side) / frame.side
    starts = (below, (1 - scale) / 2, (target.left - frame.left) / frame.side)
    offset = [n * start + (scale - 1) / 2 for n, start in zip(hu.shape, starts, strict=True)]
    return ndimage.affine_transform(hu.astype(np.float32), np.full(3, scale), offset, order=1, mode="nearest")
