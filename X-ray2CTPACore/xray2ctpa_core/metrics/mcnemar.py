"""McNemar's test: do two readers or models err equally often on the same patients?"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from xray2ctpa_core.errors import InputError


@dataclass(frozen=True)
class McNemar:
    """Test of equal marginal rates in a paired 2 x 2 table (McNemar, Psychometrika 12, 1947, 153).

    Attributes:
        first_only, second_only: patients on whom only the first, only the second was right.
        exact_p: two-sided, from the binomial distribution of the discordant patients.
        chi_square, p: (|b - c| - 1)^2 / (b + c) with Edwards' continuity correction, and its p at 1 degree of
            freedom.
        chi_square_plain, p_plain: (b - c)^2 / (b + c), without the correction.
    """

    first_only: int
    second_only: int
    exact_p: float
    chi_square: float
    p: float
    chi_square_plain: float
    p_plain: float


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """McNemar's test of two lists of right and wrong answers on the same patients.

    Args:
        first_right, second_right: (N,) bool, whether each answer was right (or positive, to compare rates of
            calls); N at least 1.
    """
    first, second = np.asarray(first_right), np.asarray(second_right)
    if first.ndim != 1 or first.shape != second.shape or len(first) == 0:
        raise InputError(f"McNemar's test needs paired answers, got shapes {first.shape} and {second.shape}.")
    if first.dtype != bool or second.dtype != bool:
        raise InputError(f"McNemar's test needs true and false, got {first.dtype} and {second.dtype}.")
    return mcnemar_counts(int((first & ~second).sum()), int((~first & second).sum()))


def mcnemar_counts(first_only: int, second_only: int) -> McNemar:
    """McNemar's test from the two discordant counts; without any, every p is 1."""
    if min(first_only, second_only) < 0:
        raise InputError(f"Expected counts of at least 0, got {first_only} and {second_only}.")
    discordant = first_only + second_only
    if discordant == 0:
        return McNemar(0, 0, 1.0, 0.0, 1.0, 0.0, 1.0)
    gap = abs(first_only - second_only)
    plain, corrected = gap**2 / discordant, max(0, gap - 1) ** 2 / discordant
    return McNemar(
        first_only,
        second_only,
        float(stats.binomtest(first_only, discordant, 0.5).pvalue),
        corrected,
        float(stats.chi2.sf(corrected, 1)),
        plain,
        float(stats.chi2.sf(plain, 1)),
    )
