"""Rules that a chest CT in Hounsfield units keeps, whatever the scanner, and what breaks them."""

from dataclasses import dataclass

import numpy as np

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
#: Side of a CT's longest axis in mm: shorter or longer ones come of another unit.
LONGEST_SIDE_MM = (5.0, 3_000.0)


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
    _Slip("an intercept of -1024 was applied twice", 1.0, 1024.0),
    _Slip("an intercept of -1000 was applied twice", 1.0, 1000.0),
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
    below = values[values < LOWEST_HU]
    if below.size > BEYOND_SHARE * values.size:
        levels, counts = np.unique(below, return_counts=True)
        if len(levels) > 1 and below.size - counts.max() > BEYOND_SHARE * values.size:
            return f"nothing but one padding value below {LOWEST_HU:.0f}"
    if np.count_nonzero(values > HIGHEST_HU) > BEYOND_SHARE * values.size:
        return f"nothing but metal above {HIGHEST_HU:.0f}"
    return ""


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
        slip = next((s.says for s in _SLIPS if not broken_rule(s.undo(array))), "")
        if rule == _NO_SOFT_TISSUE and not slip and not broken_rule(array, LEAST_IN_MASKED_LUNGS):
            return
        cause = f"It seems that {slip}" if slip else "Its rescale slope and intercept were lost or spoilt"
        if not slip and array.min() > LOWEST_HU and array.max() < AIR_BELOW_HU:
            cause = "It holds air alone"
        raise InputError(
            f"Expected Hounsfield units with {rule}, got {array.min():g} to {array.max():g} in {name}.",
            f"{cause}: convert the scan again.",
        )


def check_extent(shape: tuple[int, ...], spacing_mm: tuple[float, ...], name: str) -> None:
    """Raises InputError where a CT of ``shape`` and ``spacing_mm``, along (i, j, k), is of no person."""
    longest = max(n * mm for n, mm in zip(shape, spacing_mm, strict=True))
    low, high = LONGEST_SIDE_MM
    if not low <= longest <= high:
        raise InputError(
            f"Expected a CT between {low:g} mm and {high / 1000:g} m long, got {longest:g} mm in {name}.",
            "The unit or the spacing in its header is wrong: convert the scan again.",
        )
