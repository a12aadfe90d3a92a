"""Overlap of two masks."""

import numpy as np

from xray2ctpa_core.errors import InputError


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """Dice coefficient 2|A and B| / (|A| + |B|) of two boolean arrays of one shape.

    Returns:
        0 to 1; NaN where the reference is empty, since there is then nothing to find.
    """
    if mask.shape != reference.shape:
        raise InputError(f"Expected two masks of one shape, got {mask.shape} and {reference.shape}.")
    mask, reference = mask.astype(bool), reference.astype(bool)
    if not reference.any():
        return float("nan")
    return float(2 * np.count_nonzero(mask & reference) / (mask.sum() + reference.sum()))
