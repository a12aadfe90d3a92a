"""Comparison of two ways of reading over several readers: Obuchowski and Rockette's analysis of AUROCs."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import Interval


@dataclass(frozen=True)
class MultiReader:
    """Difference of the readers' mean AUROC, second way minus first, readers and cases random.

    Attributes:
        first, second: mean AUROC of each way.
        difference: with its 95 % interval.
        p: two-sided.
        degrees: of freedom of the denominator.
    """

    first: float
    second: float
    difference: Interval
    p: float
    degrees: float


def compare_readers(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, level: float = 0.95
) -> MultiReader:
    """Obuchowski and Rockette 1995 with DeLong's covariances and the degrees of freedom of Hillis 2007.

    Args:
        labels: (N,) 0 or 1.
        first, second: (J, N) scores of J >= 2 readers on the same cases, read in two ways.
    """
    if first.ndim != 2 or first.shape != second.shape or len(first) < 2:
        raise InputError(f"Expected two tables of 2 or more readers, got {first.shape} and {second.shape}.")
    readers = len(first)
    parts = [_placements(labels, scores) for way in (first, second) for scores in way]
    areas = np.array([part[0] for part in parts]).reshape(2, readers)
    covariance = _covariance(parts)
    same_way = [covariance[i * readers + j, i * readers + k]
                for i in (0, 1) for j in range(readers) for k in range(readers) if j != k]  # fmt: skip
    other_way = [covariance[j, readers + k] for j in range(readers) for k in range(readers) if j != k]
    between = max(0.0, readers * float(np.mean(same_way) - np.mean(other_way)))
    means, whole = areas.mean(axis=1), areas.mean()
    treatment = readers * float(((means - whole) ** 2).sum())
    residual = areas - means[:, None] - areas.mean(axis=0)[None] + whole
    interaction = float((residual**2).sum()) / (readers - 1)
    denominator = interaction + between
    mean_first, mean_second = (float(mean) for mean in means)
    difference = mean_second - mean_first
    if denominator == 0:  # all readers have the same difference, and cases have no variance
        p = 1.0 if difference == 0 else 0.0
        return MultiReader(mean_first, mean_second, Interval(difference, difference, difference), p, np.inf)
    degrees = np.inf if interaction == 0 else denominator**2 / (interaction**2 / (readers - 1))
    reach = float(stats.t.ppf((1 + level) / 2, degrees)) * float(np.sqrt(2 / readers * denominator))
    p = float(stats.f.sf(treatment / denominator, 1, degrees))
    interval = Interval(difference, difference - reach, difference + reach)
    return MultiReader(mean_first, mean_second, interval, p, float(degrees))


def _placements(labels: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Area, and DeLong's components: for each positive the share of negatives below it, and the reverse."""
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None]
    order = (positive > negative) + 0.5 * (positive == negative)
    return float(order.mean()), order.mean(axis=1), order.mean(axis=0)


def _covariance(parts: list[tuple[float, np.ndarray, np.ndarray]]) -> np.ndarray:
    """(M, M) covariance of M AUROCs on the same cases (DeLong et al. 1988)."""
    positive, negative = np.stack([part[1] for part in parts]), np.stack([part[2] for part in parts])
    if min(positive.shape[1], negative.shape[1]) < 2:
        raise InputError("Expected 2 cases or more of each class, got fewer.")
    return np.asarray(np.cov(positive) / positive.shape[1] + np.cov(negative) / negative.shape[1])
