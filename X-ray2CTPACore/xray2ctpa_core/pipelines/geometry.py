"""Size of the generated volume in mm, and its source."""

import numpy as np

from xray2ctpa_core.pipelines.bundle import GeometryRule
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume, axial_affine

#: Range of the frontal frames of adults in mm; a spacing that gives another side is not used, because
#: scaled-down copies in archives keep the spacing of the originals ...
PLAUSIBLE_SIDE_MM = (180.0, 480.0)
#: ... and the smallest frame of patients who are younger according to the file.
CHILD_YEARS, CHILD_SIDE_MM = 16, 80.0
#: A plausible side that is far from that of most adults is doubted: a spacing that is half or twice the true
#: one may give it. (The lungs of twelve people's CTs, 228 to 318 mm wide, have frames of 270 to 375 mm.)
USUAL_SIDE_MM = (230.0, 430.0)
COHORT_MEAN = "cohort mean"
#: Source of the size of bundles whose volumes all have one extent.
FIXED_EXTENT = "fixed extent of the bundle"


def frame_side_mm(radiograph: Radiograph, frame: FrontalFrame, rule: GeometryRule) -> tuple[float, str]:
    """Side of the frame in the plane through the middle of the thorax, and the source of that number.

    The spacing is that at the detector, divided by the magnification of the thorax's middle. The file states
    the magnification (1 if its spacing is that in the patient); otherwise it is the ratio of source to
    detector and source to middle in ``rule``. Without a credible spacing the side is the cohort's mean.
    """
    if rule.extent_mm:
        return rule.extent_mm[0], FIXED_EXTENT
    mean = rule.mean_frame_side_mm, COHORT_MEAN
    if radiograph.spacing_mm is None:
        return mean
    side = _stated_side_mm(radiograph, radiograph.spacing_mm, frame, rule)
    smallest = CHILD_SIDE_MM if _is_child(radiograph) else PLAUSIBLE_SIDE_MM[0]
    if not smallest <= side <= PLAUSIBLE_SIDE_MM[1]:
        return mean
    return side, radiograph.spacing_source


def _stated_side_mm(
    radiograph: Radiograph, spacing_mm: tuple[float, float], frame: FrontalFrame, rule: GeometryRule
) -> float:
    to_middle = rule.source_to_detector_mm - rule.detector_to_centre_mm
    magnification = radiograph.magnification or rule.source_to_detector_mm / to_middle
    return frame.side * spacing_mm[0] / magnification


def _is_child(radiograph: Radiograph) -> bool:
    return radiograph.age_years is not None and radiograph.age_years < CHILD_YEARS


def size_sentence(radiograph: Radiograph, frame: FrontalFrame, rule: GeometryRule) -> str:
    """How ``frame_side_mm`` found the size, in one sentence."""
    side, source = frame_side_mm(radiograph, frame, rule)
    if source == FIXED_EXTENT:
        return f"Every volume of this bundle is {side:.0f} mm high, whatever the size of the radiograph."
    if radiograph.spacing_mm is None:
        return f"Its size is not known; the frame was taken to be {side:.0f} mm wide, the mean of the cohort."
    spacing = f"{radiograph.spacing_source} of {radiograph.spacing_mm[0]:.4g} mm"
    if source == COHORT_MEAN:
        stated = _stated_side_mm(radiograph, radiograph.spacing_mm, frame, rule)
        small = CHILD_SIDE_MM <= stated < PLAUSIBLE_SIDE_MM[0]
        chest = "a chest" if _is_child(radiograph) else "an adult's chest"
        cause = "the patient is a child, or the spacing is wrong" if small else "the spacing is wrong"
        return (
            f"{spacing} is not credible for {chest}, whose frame would be {stated:.0f} mm wide "
            f"({cause}); the frame was taken to be {side:.0f} mm wide, the mean of the cohort."
        )
    place = f"calibrated in the patient ({radiograph.magnification_source})"
    if radiograph.magnification is None:
        place = "at the detector, with the customary magnification"
    elif radiograph.magnification != 1:
        factor = f"magnification {radiograph.magnification:.3g} by {radiograph.magnification_source}"
        place = f"at the detector, {factor}"
    return f"{spacing} {place}: the frame is {side:.0f} mm wide in the patient."


def size_doubts(radiograph: Radiograph, frame: FrontalFrame, rule: GeometryRule) -> tuple[str, ...]:
    """Sentences that warn the user if the size is the cohort's mean, unusual, or a child's."""
    side, source = frame_side_mm(radiograph, frame, rule)
    if source in (COHORT_MEAN, FIXED_EXTENT):
        return (size_sentence(radiograph, frame, rule),)
    if _is_child(radiograph):
        return (f"The child's frame is {side:.0f} mm wide; what is generated is an adult's anatomy in it.",)
    low, high = USUAL_SIDE_MM
    if not low <= side <= high:
        causes = (
            "the patient is no child, and the spacing not half" if side < low else "the spacing is not twice"
        )
        return (
            f"The frame is {side:.0f} mm wide by the {source}; {low:.0f} to {high:.0f} mm are usual of "
            f"adults: check that {causes} the true one.",
        )
    return ()


def volume_affine(side_mm: float, rule: GeometryRule) -> np.ndarray:
    """LPS affine of the bundle's grid for a frame of ``side_mm``, with its middle at the origin; a bundle
    with an extent of its own has that size."""
    depth, height, width = rule.grid
    extent = rule.extent_mm or (side_mm, rule.depth_fraction * side_mm, side_mm)
    return axial_affine((depth, height, width), extent)  # type: ignore[arg-type]


def before_volume(image: np.ndarray, radiograph: Radiograph, frame: FrontalFrame, volume: Volume) -> Volume:
    """An image of the whole radiograph as one coronal slice in front of the middle of its volume.

    Args:
        image: (h, w), rows to inferior, columns to the patient's left; not necessarily the radiograph's own
            pixels.
        radiograph: whose square ``frame`` corresponds to ``volume``, an axial grid.

    Returns:
        A Volume (1, h, w): i to the Left, j to Inferior, k to Posterior.
    """
    mm = volume.spacing[0] * volume.array.shape[2] / frame.side
    down, across = (mm * n / m for n, m in zip(radiograph.pixels.shape, image.shape, strict=True))
    middle = volume.affine[:3, :3] @ ((np.array(volume.array.shape[::-1]) - 1) / 2) + volume.affine[:3, 3]
    affine = np.array([[across, 0, 0, 0], [0, 0, mm, 0], [0, -down, 0, 0], [0, 0, 0, 1.0]])
    affine[:3, 3] = middle
    affine[0, 3] += across / 2 - mm * (frame.left + frame.side / 2)
    affine[2, 3] += mm * (frame.top + frame.side / 2) - down / 2
    return Volume(image[None], affine)


def on_frame(hu: np.ndarray, frame: FrontalFrame, target: FrontalFrame) -> np.ndarray:
    """Resamples the volume of one frame of a radiograph to that of another frame.

    Args:
        hu: (D, H, W), the volume of ``frame``; beyond its edge the nearest voxel is repeated.
        frame, target: squares of the same radiograph, in its pixels.

    Returns:
        (D, H, W) float32 on the grid of ``target``.
    """
    from scipy import ndimage  # imported here because a caller may only need a size

    scale = target.side / frame.side
    below = (frame.top + frame.side - target.top - target.side) / frame.side
    starts = (below, (1 - scale) / 2, (target.left - frame.left) / frame.side)
    offset = [n * start + (scale - 1) / 2 for n, start in zip(hu.shape, starts, strict=True)]
    return ndimage.affine_transform(hu.astype(np.float32), np.full(3, scale), offset, order=1, mode="nearest")
