"""Estimates with confidence intervals: bootstrap means, paired differences, Wilson."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from xray2ctpa_core.errors import InputError

BOOTSTRAP_DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate with the lower and upper end of its confidence interval."""

    estimate: float
    lower: float
    upper: float

    def text(self, digits: int = 3) -> str:
        """``estimate [lower, upper]``."""
        return f"{self.estimate:.{digits}f} [{self.lower:.{digits}f}, {self.upper:.{digits}f}]"


def bootstrap_mean(
    values: np.ndarray, level: float = 0.95, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Interval:
    """Mean of ``values`` with the percentile bootstrap's interval (Efron 1979), patients drawn anew.

    Args:
        values: (N,) finite, one value a patient, N at least 1.
        level: confidence, between 0 and 1.
        draws: resamples.
        seed: of the resampling; the same seed gives the same interval.
    """
    values = _finite(values)
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    lower, upper = np.quantile(values[picks].mean(axis=1), _tails(level))
    return Interval(float(values.mean()), float(lower), float(upper))


def paired_bootstrap_difference(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Interval:
    """Mean of ``first - second`` over the same patients, with a percentile bootstrap interval."""
    first, second = _finite(first), _finite(second)
    if first.shape != second.shape:
        raise InputError(f"A paired difference needs equal lengths, got {len(first)} and {len(second)}.")
    return bootstrap_mean(first - second, level, draws, seed)


def pearson(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Interval:
    """Pearson's correlation of paired values with Fisher's interval (z has the deviation 1 / sqrt(N - 3)).

    Raises:
        InputError: unequal lengths, fewer than 4 pairs, or values that do not vary.
    """
    first, second = _finite(first), _finite(second)
    if first.shape != second.shape or len(first) < 4:
        raise InputError(f"A correlation needs 4 pairs or more, got {len(first)} and {len(second)} values.")
    if min(np.ptp(first), np.ptp(second)) == 0:
        raise InputError("A correlation needs values that vary, got equal ones.")
    estimate = float(np.corrcoef(first, second)[0, 1])
    z = np.arctanh(np.clip(estimate, -1 + 1e-12, 1 - 1e-12))
    reach = float(stats.norm.ppf(_tails(level)[1])) / np.sqrt(len(first) - 3)
    return Interval(estimate, float(np.tanh(z - reach)), float(np.tanh(z + reach)))


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Proportion with Wilson's score interval (JASA 22, 1927, 209); all NaN without trials."""
    if not 0 <= successes <= trials:
        raise InputError(f"Expected 0 <= successes <= trials, got {successes} of {trials}.")
    if trials == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    z = float(stats.norm.ppf(_tails(level)[1]))
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    reach = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Interval(share, float(max(0.0, centre - reach)), float(min(1.0, centre + reach)))


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise InputError(f"A confidence level lies between 0 and 1, got {level}.")
    return (1 - level) / 2, (1 + level) / 2


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise InputError(f"Expected a list of finite numbers, got shape {values.shape}: {values!r:.80}.")
    return values
