"""Rules that a chest CT in Hounsfield units keeps, whatever the scanner, and what breaks them."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.errors import InputError

#: Some of every chest CT is below this HU (air, lung).
AIR_BELOW_HU = -500.0
#: HU of soft tissue and blood, and the least share of voxels that has them (a crop of the lungs: 0.1).
SOFT_TISSUE_HU, LEAST_SOFT_TISSUE = (-200.0, 300.0), 0.01
#: ... but where all around the lungs was masked off, their vessels alone.
LEAST_IN_MASKED_LUNGS = 0.001
#: Nothing but padding, which is one value, is below this HU; nothing but metal above that one.
LOWEST_HU, HIGHEST_HU = -1200.0, 3100.0
#: Share of the voxels that may lie beyond (rings and resampled edges of padding, metal).
BEYOND_SHARE = 0.05
#: Bone, contrast medium and metal alone are above this HU, and one value of filler; without that at most this
#: share of the voxels (twelve chest CTs: at most 0.015).
DENSE_HU, DENSE_SHARE = 500.0, 0.08
#: HU of aerated lung.
LUNG_HU = (-900.0, -600.0)
#: Width in mm of a body in a CT, along the second longest of its axes (the longest may be that of a
#: whole-body scan, the shortest that of a slab): a newborn's chest is 80 mm deep, a large adult 600 mm wide.
BODY_WIDTH_MM = (60.0, 750.0)
#: Least share of a plane's voxels that are no air where the plane goes through the body.
BODY_SHARE = 0.001
#: A corner of this share of each side, and of so many voxels at least, in one grey is filler: in a CT noise
#: would tell its voxels apart.
CORNER_SHARE, LEAST_CORNER = 0.04, 2
#: Units that are mistaken for mm, and how many mm they are; the usual width of a chest.
_UNITS = (("centimetres", 10.0), ("metres", 1000.0), ("inches", 25.4), ("micrometres", 0.001))
_USUAL_WIDTH_MM = (150.0, 550.0)


_NO_SOFT_TISSUE = f"soft tissue between {SOFT_TISSUE_HU[0]:.0f} and {SOFT_TISSUE_HU[1]:.0f}"


@dataclass(frozen=True)
class _Slip:
    """A known way to spoil HU: ``undo`` brings them back."""

    says: str
    scale: float
    offset: float

    def undo(self, array: np.ndarray) -> np.ndarray:
        return array * np.float32(self.scale) + np.float32(self.offset)


_SLIPS = (
    _Slip("their sign is wrong", -1.0, 0.0),
    _Slip("an intercept of -1024 was applied twice, or one of -1000", 1.0, 1024.0),
    _Slip("an intercept of -8192 was applied twice", 1.0, 8192.0),
    _Slip("the intercept of -1024 was not applied", 1.0, -1024.0),
    _Slip("they are ten times HU", 0.1, 0.0),
    _Slip("they are a tenth of HU", 10.0, 0.0),
    _Slip("the stored values were multiplied by ten", 0.1, 0.1 * 1024.0 - 1024.0),
    _Slip("they are ten times HU with an intercept of -1024 applied twice", 0.1, 1024.0),
)


def broken_rule(array: np.ndarray, least_soft_tissue: float = LEAST_SOFT_TISSUE) -> str:
    """The rule that ``array`` (any shape, finite) breaks, as what was expected; "" where it keeps all.

    Args:
        array: in HU, if it keeps the rules.
        least_soft_tissue: share of the voxels that must have HU of soft tissue.
    """
    values = np.asarray(array).ravel()
    if values.min() > AIR_BELOW_HU:
        return f"air below {AIR_BELOW_HU:.0f}"
    low, high = SOFT_TISSUE_HU
    if np.count_nonzero((values > low) & (values < high)) < least_soft_tissue * values.size:
        return _NO_SOFT_TISSUE
    if _without_filler(values[values < LOWEST_HU]) > BEYOND_SHARE * values.size:
        return f"nothing but one padding value below {LOWEST_HU:.0f}"
    if np.count_nonzero(values > HIGHEST_HU) > BEYOND_SHARE * values.size:
        return f"nothing but metal above {HIGHEST_HU:.0f}"
    if _without_filler(values[values > DENSE_HU]) > DENSE_SHARE * values.size:
        return f"nothing but bone, contrast medium and metal above {DENSE_HU:.0f}"
    return ""


def _without_filler(values: np.ndarray) -> int:
    """Number of ``values`` that differ from the most frequent one, which may be filler."""
    return values.size - int(np.unique(values, return_counts=True)[1].max(initial=0))


def check_hounsfield(array: np.ndarray, name: str) -> None:
    """Raises InputError, naming the rule and the likely cause, where ``array`` cannot be a chest CT in HU."""
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(
            f"Expected finite voxels, got {bad} NaN or infinite of {array.size} in {name}.",
            "Convert the scan again; a mask's outside is -1000 HU, not NaN.",
        )
    rule = broken_rule(array)
    if rule:
        slip = _slip(array)
        if rule == _NO_SOFT_TISSUE and not slip and not broken_rule(array, LEAST_IN_MASKED_LUNGS):
            return
        cause = f"It seems that {slip}" if slip else "Its rescale slope and intercept were lost or spoilt"
        if not slip and array.min() > LOWEST_HU and array.max() < AIR_BELOW_HU:
            cause = "It holds air alone"
        raise InputError(
            f"Expected Hounsfield units with {rule}, got {array.min():g} to {array.max():g} in {name}.",
            f"{cause}: convert the scan again.",
        )


def _slip(array: np.ndarray) -> str:
    """What spoilt ``array``, "" where nothing known did; of several, that without which it has most lung."""
    undone = ((s.says, s.undo(array)) for s in _SLIPS)
    low, high = LUNG_HU
    lung = {
        says: int(np.count_nonzero((hu > low) & (hu < high))) for says, hu in undone if not broken_rule(hu)
    }
    return max(lung, key=lambda says: lung[says], default="")


def with_air_around(array: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """``array`` (D, H, W) of HU whose filler around the body is air, and a sentence on each that was not.

    Masks and resampling fill with 0, which is water. Filler is one value above AIR_BELOW_HU in a corner of
    the array, and whatever equals it and is connected with that corner.
    """
    fillers = sorted({value for value in map(_filler, _corners(array)) if value is not None})
    notes = []
    for value in fillers:
        regions, count = ndimage.label(array == value)
        at_corners = sorted({int(block.flat[0]) for block in _corners(regions)} - {0})
        filled = np.isin(np.arange(count + 1), at_corners)[regions]
        array = np.where(filled, np.float32(AIR_HU), array)
        notes.append(
            f"{value:g} HU around the body is not air: {np.count_nonzero(filled)} voxels of it (a mask's or "
            f"resampling's filler) were set to {AIR_HU:.0f} HU."
        )
    return array, tuple(notes)


def _corners(array: np.ndarray) -> list[np.ndarray]:
    """The eight corner blocks of ``array`` (D, H, W)."""
    sides = (max(LEAST_CORNER, round(CORNER_SHARE * n)) for n in array.shape)
    ends = [(slice(None, n), slice(-n, None)) for n in sides]
    return [array[corner] for corner in itertools.product(*ends)]


def _filler(block: np.ndarray) -> float | None:
    """The one value of a block where that is above air, else None."""
    value = float(block.flat[0])
    return value if value > AIR_BELOW_HU and (block == block.flat[0]).all() else None


def check_body(array: np.ndarray, spacing_mm: tuple[float, float, float], name: str) -> None:
    """Raises InputError where a CT's body is not as wide as a person's: its unit or spacing is wrong.

    Args:
        array: (D, H, W) HU.
        spacing_mm: along (i, j, k).
        name: for messages.
    """
    tissue = array > AIR_BELOW_HU
    sides = []
    for axis, mm in zip((2, 1, 0), spacing_mm, strict=True):
        others = tuple(a for a in range(3) if a != axis)
        planes = np.flatnonzero(tissue.mean(axis=others) > BODY_SHARE)
        sides.append(mm * (planes[-1] - planes[0] + 1 if planes.size else array.shape[axis]))
    width = sorted(sides)[1]
    low, high = BODY_WIDTH_MM
    if not low <= width <= high:
        usual_low, usual_high = _USUAL_WIDTH_MM
        unit = next((unit for unit, mm in _UNITS if usual_low <= width * mm <= usual_high), "")
        cause = f"Its spacing seems to be in {unit}" if unit else "Its spacing is wrong"
        raise InputError(
            f"Expected a body {low:g} to {high:g} mm wide in a CT, got {width:.3g} mm in {name}.",
            f"{cause}, not in mm: correct the header, or convert the scan again.",
        )
