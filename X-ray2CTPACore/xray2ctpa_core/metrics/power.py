"""Number of patients that are needed to detect a difference of two AUROCs."""

import numpy as np
from scipy import stats

from xray2ctpa_core.errors import InputError

#: Largest number of patients that is tried.
_MOST = 10_000_000


def auroc_error(area: float, positive: float, negative: float) -> float:
    """Standard error of an AUROC (Hanley and McNeil, Radiology 143, 1982, 29).

    Args:
        area: in (0, 1).
        positive, negative: patients with and without.
    """
    if not 0 < area < 1 or min(positive, negative) < 1:
        raise InputError(f"Expected an area in (0, 1) and patients, got {area}, {positive}, {negative}.")
    both_positive, both_negative = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (
        area * (1 - area)
        + (positive - 1) * (both_positive - area**2)
        + (negative - 1) * (both_negative - area**2)
    )
    return float(np.sqrt(spread / (positive * negative)))


def difference_error(
    first: float, second: float, positive: float, negative: float, correlation: float
) -> float:
    """Standard error of the difference of two AUROCs on the same patients (Hanley and McNeil, Radiology 148,
    1983, 839), whose estimates have the ``correlation``; 0 for different patients."""
    if not 0 <= correlation < 1:
        raise InputError(f"Expected a correlation from 0 to below 1, got {correlation}.")
    a, b = (auroc_error(area, positive, negative) for area in (first, second))
    return float(np.sqrt(a**2 + b**2 - 2 * correlation * a * b))


def patients_needed(
    first: float,
    second: float,
    prevalence: float,
    correlation: float = 0.5,
    power: float = 0.8,
    level: float = 0.95,
) -> int:
    """Number of patients for which a two-sided test at ``level`` detects the difference with ``power``.

    Args:
        first, second: the true AUROCs, different.
        prevalence: share of patients with the disease.
        correlation: of the two estimates on the same patients; readers of the same images have about 0.5.
    """
    if first == second or not 0 < prevalence < 1 or not 0 < power < 1 or not 0 < level < 1:
        raise InputError(
            f"Expected different areas and prevalence, power and level in (0, 1), got {first}, {second}, "
            f"{prevalence}, {power}, {level}."
        )
    reach = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))

    def found(patients: int) -> bool:
        positive, negative = patients * prevalence, patients * (1 - prevalence)
        if min(positive, negative) < 1:
            return False
        return abs(first - second) >= reach * difference_error(first, second, positive, negative, correlation)

    low, high = 1, 2
    while not found(high):
        low, high = high, 2 * high
        if high > _MOST:
            raise InputError(
                f"A difference of {abs(first - second):.2g} needs more than {_MOST} patients to be detected."
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high
