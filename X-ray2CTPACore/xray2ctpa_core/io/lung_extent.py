"""Whether the lungs of a CT are as wide, deep and high as a person's, or a spacing of it is wrong."""

import numpy as np
from scipy import ndimage

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.volume import Volume

#: Lung and other air is below this HU; the lungs are looked for on at most so many voxels along an axis.
_AIR_BELOW_HU, _VOXELS = -400.0, 96
#: Regions of air within the body of at least this share of the largest one are lungs. Planes with less than
#: this share of the widest plane's air are left out (the trachea).
_LEAST_REGION, _LEAST_PLANE = 0.15, 0.1
#: Ratios of the lungs' extents that are not doubted, and those beyond which the CT is refused. Twelve
#: people's CTs have a height over width of 0.72 to 1.05 and a width over depth of 1.1 to 1.7.
_USUAL = {"height over width": (0.6, 1.35), "width over depth": (0.8, 2.3)}
_POSSIBLE = {"height over width": (0.3, 2.7), "width over depth": (0.4, 4.6)}
#: Width of both lungs in mm that is not doubted (228 to 318 in those CTs).
_USUAL_WIDTH_MM = (160.0, 400.0)


def extent_doubts(volume: Volume, name: str) -> tuple[str, ...]:
    """Sentences on lungs of an unusual size or shape; none where they are not whole within the CT.

    Args:
        volume: HU.
        name: for messages.

    Raises:
        InputError: a shape that no lungs have: the spacing along one axis is wrong.
    """
    extents = lung_extents(volume)
    if extents is None:
        return ()
    width, depth, height = extents
    doubts = []
    for (ratio, usual), value in zip(_USUAL.items(), (height / width, width / depth), strict=True):
        said = (
            f"lungs {width:.0f} mm wide, {depth:.0f} mm deep and {height:.0f} mm high: a {ratio} of "
            f"{value:.2g}, where {usual[0]:g} to {usual[1]:g} is usual"
        )
        low, high = _POSSIBLE[ratio]
        if not low <= value <= high:
            raise InputError(
                f"Expected the lungs of a person in a CT, got {said}, in {name}.",
                "The spacing along one axis is wrong, or in another unit: correct the header, or convert the "
                "scan again.",
            )
        if not usual[0] <= value <= usual[1]:
            doubts.append(f"The CT shows {said}: check the spacing along each axis.")
    if not doubts and not _USUAL_WIDTH_MM[0] <= width <= _USUAL_WIDTH_MM[1]:
        low, high = _USUAL_WIDTH_MM
        doubts.append(
            f"The CT shows lungs {width:.0f} mm wide; {low:g} to {high:g} mm are usual of adults: this is a "
            "child, or the spacing is wrong."
        )
    return tuple(doubts)


def lung_extents(volume: Volume) -> tuple[float, float, float] | None:
    """Width (left to right), depth and height of the lungs in mm; None where they are not found, or not whole
    within the volume."""
    steps = tuple(max(1, -(-n // _VOXELS)) for n in volume.array.shape)
    air = volume.array[:: steps[0], :: steps[1], :: steps[2]] < _AIR_BELOW_HU
    spacing = np.array(volume.spacing)[::-1] * steps  # of (k, j, i)
    cosines = np.abs(volume.direction)[:, ::-1]
    axes = [int(np.argmax(cosines[line])) for line in range(3)]  # array axis along x, y, z
    if sorted(axes) != [0, 1, 2]:
        return None
    lungs = _within_body(air, axes[2])
    extents = []
    for axis in axes:
        profile = lungs.sum(axis=tuple(a for a in range(3) if a != axis))
        planes = np.flatnonzero(profile >= max(1.0, _LEAST_PLANE * float(profile.max())))
        if not planes.size or planes[0] == 0 or planes[-1] == len(profile) - 1:
            return None
        extents.append(float((planes[-1] - planes[0] + 1) * spacing[axis]))
    return extents[0], extents[1], extents[2]


def _within_body(air: np.ndarray, height_axis: int) -> np.ndarray:
    """The large regions of ``air`` that do not reach the sides of the volume, which its ends may cut."""
    regions, _ = ndimage.label(air)
    counts = np.bincount(regions.ravel())
    counts[0] = 0
    for axis in (a for a in range(3) if a != height_axis):
        for end in (0, -1):
            counts[np.unique(np.take(regions, end, axis=axis))] = 0
    if not counts.any():
        return np.zeros(air.shape, bool)
    return np.isin(regions, np.flatnonzero(counts >= _LEAST_REGION * counts.max()))
