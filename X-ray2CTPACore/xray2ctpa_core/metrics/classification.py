"""How well scores tell patients with from without: AUROC with DeLong's interval and test, cut-offs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import Interval, wilson


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties half.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) finite, higher = more likely positive; any scale.
    """
    return float(_placements(labels, scores)[0])


def delong_interval(labels: np.ndarray, scores: np.ndarray, level: float = 0.95) -> Interval:
    """AUROC with the interval of DeLong et al. (Biometrics 44, 1988, 837), cut off at 0 and 1.

    Raises:
        InputError: as ``auroc``; at least 2 patients of each class are needed.
    """
    area, positive, negative = _placements(labels, scores)
    error = np.sqrt(_variance(positive, negative))
    z = float(stats.norm.ppf((1 + level) / 2))
    return Interval(float(area), float(max(0.0, area - z * error)), float(min(1.0, area + z * error)))


def delong_test(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, level: float = 0.95
) -> tuple[Interval, float]:
    """Difference of two AUROCs on the same patients, by DeLong et al. 1988.

    Returns:
        (first - second with its interval, two-sided p). Scores that order all pairs alike differ by 0 with
        p = 1.
    """
    area_a, positive_a, negative_a = _placements(labels, first)
    area_b, positive_b, negative_b = _placements(labels, second)
    difference = float(area_a - area_b)
    error = float(np.sqrt(_variance(positive_a - positive_b, negative_a - negative_b)))
    if error == 0:
        return Interval(difference, difference, difference), 1.0 if difference == 0 else 0.0
    reach = float(stats.norm.ppf((1 + level) / 2)) * error
    p = float(2 * stats.norm.sf(abs(difference) / error))
    return Interval(difference, difference - reach, difference + reach), p


def mean_auroc(folds: Sequence[tuple[np.ndarray, np.ndarray]], level: float = 0.95) -> Interval:
    """Mean over folds of the AUROC, as cross-validation reports it.

    Each fold's own model ranks its own test patients, so scores of different models are never compared. The
    folds' patients differ: the variance of the mean is the sum of DeLong's variances over the count squared.

    Args:
        folds: (labels, scores) of each fold's test patients; at least 2 of each class in every one.
    """
    if not folds:
        raise InputError("A mean over folds needs at least one fold, got none.")
    areas, variances = [], []
    for labels, scores in folds:
        area, positive, negative = _placements(labels, scores)
        areas.append(area)
        variances.append(_variance(positive, negative))
    mean, error = float(np.mean(areas)), float(np.sqrt(np.sum(variances)) / len(folds))
    reach = float(stats.norm.ppf((1 + level) / 2)) * error
    return Interval(mean, max(0.0, mean - reach), min(1.0, mean + reach))


def roc_band(
    labels: np.ndarray, scores: np.ndarray, level: float = 0.95, draws: int = 500, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """ROC curve with a pointwise band: patients of each class drawn anew, vertical averaging (Fawcett 2006).

    Returns:
        (false positive rates (101,), sensitivity, its lower and its upper end), each (101,) in [0, 1].
    """
    labels, scores = _checked(labels, scores)
    grid = np.linspace(0, 1, 101)
    positive, negative = scores[labels], scores[~labels]
    rng = np.random.default_rng(seed)
    curves = [
        _sensitivities(rng.choice(positive, len(positive)), rng.choice(negative, len(negative)), grid)
        for _ in range(draws)
    ]
    lower, upper = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return grid, _sensitivities(positive, negative, grid), lower, upper


def _sensitivities(positive: np.ndarray, negative: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """The largest sensitivity of a threshold whose false positive rate is at most each of ``rates``."""
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    true_rate = 1 - np.searchsorted(np.sort(positive), thresholds) / len(positive)
    false_rate = 1 - np.searchsorted(np.sort(negative), thresholds) / len(negative)
    allowed = np.searchsorted(false_rate, rates + 1e-12, side="right")
    return np.r_[0.0, true_rate][allowed]


def youden_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Score from which on to call positive: the largest sensitivity + specificity - 1 (Youden 1950).

    Returns:
        One of the scores; with ties the highest, which calls the fewest positive.
    """
    labels, scores = _checked(labels, scores)
    candidates = np.unique(scores)
    called = scores[None] >= candidates[:, None]
    index = called[:, labels].mean(axis=1) - called[:, ~labels].mean(axis=1)
    return float(candidates[np.flatnonzero(index >= index.max() - 1e-12)[-1]])


@dataclass(frozen=True)
class OperatingPoint:
    """Rates of the decision ``score >= threshold``, each with Wilson's interval (NaN without patients)."""

    threshold: float
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    accuracy: Interval


def operating_point(
    labels: np.ndarray, scores: np.ndarray, threshold: float, level: float = 0.95
) -> OperatingPoint:
    """Sensitivity, specificity, predictive values and accuracy of ``score >= threshold``."""
    labels, scores = _checked(labels, scores)
    called = scores >= threshold
    true_positive, true_negative = int((called & labels).sum()), int((~called & ~labels).sum())
    counts = {
        "sensitivity": (true_positive, int(labels.sum())),
        "specificity": (true_negative, int((~labels).sum())),
        "ppv": (true_positive, int(called.sum())),
        "npv": (true_negative, int((~called).sum())),
        "accuracy": (true_positive + true_negative, len(labels)),
    }
    rates = {name: wilson(right, of, level) for name, (right, of) in counts.items()}
    return OperatingPoint(threshold=threshold, **rates)


def _placements(labels: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Area and DeLong's structural components V10 (P,) and V01 (N,), by mid-ranks (Sun and Xu 2014)."""
    labels, scores = _checked(labels, scores)
    positive, negative = scores[labels], scores[~labels]
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    v10 = (ranks[: len(positive)] - stats.rankdata(positive)) / len(negative)
    v01 = 1 - (ranks[len(positive) :] - stats.rankdata(negative)) / len(positive)
    return float(v10.mean()), v10, v01


def _variance(v10: np.ndarray, v01: np.ndarray) -> float:
    if min(len(v10), len(v01)) < 2:
        raise InputError(f"DeLong needs at least 2 patients of each class, got {len(v10)} and {len(v01)}.")
    return float(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01))


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise InputError(f"Expected one label a score, got shapes {labels.shape} and {scores.shape}.")
    if not np.isfinite(scores).all():
        raise InputError("Scores must be finite, got NaN or infinity.")
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise InputError(f"Labels must be 0 and 1, both present, got {np.unique(labels).tolist()[:5]}.")
    return labels.astype(bool), scores
