"""Discrimination of patients with and without disease by scores: AUROC, DeLong's methods, thresholds.

In cross-validation scores come from several models with different scales: with ``folds`` only patients of the
same fold are ranked against each other, and the folds' areas are averaged.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import (
    Interval,
    normal_quantile,
    tails,
    wilson,
    without_interval,
)
from xray2ctpa_core.metrics.placements import (
    area_interval,
    areas_of_rows,
    checked,
    influence_of,
    ranked_parts,
)

#: Exchanges of the two scores that the permutation test draws.
PERMUTATIONS = 2000


def auroc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None = None) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties half.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) finite, higher = more likely positive; any scale.
        folds: (N,) fold of the model of each score; pairs are formed within folds. None for one model.
    """
    labels, scores = checked(labels, scores)
    return sum(part.share * part.area for part in ranked_parts(labels, scores, folds))


def delong_interval(
    labels: np.ndarray, scores: np.ndarray, level: float = 0.95, folds: np.ndarray | None = None
) -> Interval:
    """AUROC with the interval of DeLong et al. (Biometrics 44, 1988, 837) on the logit scale.

    With 10 to 20 patients a side at an area of 0.9 it covers 0.95 to 0.98, where the plain interval covers
    0.79 to 0.89. Where DeLong's variance is 0 (perfect separation, equal scores) it is Newcombe's method 5
    (Statistics in Medicine 25, 2006, 559), which needs the counts alone.

    Args:
        labels, scores, folds: as in ``auroc``; folds are weighted by their number of pairs.
        level: confidence, between 0 and 1.

    Raises:
        InputError: as in ``auroc``, or fewer than 2 patients of a class in a fold.
    """
    labels, scores = checked(labels, scores)
    return area_interval(ranked_parts(labels, scores, folds), level)


def mean_auroc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray, level: float = 0.95) -> Interval:
    """Unweighted mean of the folds' AUROCs, as usual in cross-validation, with an interval as in
    ``delong_interval``."""
    labels, scores = checked(labels, scores)
    return area_interval(ranked_parts(labels, scores, folds, by_pairs=False), level)


def delong_test(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    level: float = 0.95,
    first_folds: np.ndarray | None = None,
    second_folds: np.ndarray | None = None,
) -> tuple[Interval, float]:
    """Difference of two AUROCs on the same patients, by DeLong et al. 1988.

    Args:
        labels: (N,) 0 or 1.
        first, second: (N,) scores.
        level: confidence, between 0 and 1.
        first_folds, second_folds: (N,) as in ``auroc``; they may differ.

    Returns:
        (first - second with its interval, two-sided p). Where the variance is 0 there is no interval; p is
        then 1 for equal areas, else from exchanging the two ranks of each patient at random (Venkatraman and
        Begg, Biometrika 83, 1996, 835).
    """
    labels, first = checked(labels, first)
    _, second = checked(labels, second)
    a, b = ranked_parts(labels, first, first_folds), ranked_parts(labels, second, second_folds)
    difference = float(sum(p.share * p.area for p in a) - sum(p.share * p.area for p in b))
    error = float(np.sqrt(np.square(influence_of(a, len(labels)) - influence_of(b, len(labels))).sum()))
    z = normal_quantile(level)
    if error < 1e-12:
        same = abs(difference) < 1e-12
        p = 1.0 if same else _exchanged(labels, (first, second), (first_folds, second_folds), difference)
        return without_interval(difference), p
    p = float(2 * stats.norm.sf(abs(difference) / error))
    return Interval(difference, difference - z * error, difference + z * error), p


def roc_band(
    labels: np.ndarray,
    scores: np.ndarray,
    level: float = 0.95,
    draws: int = 500,
    seed: int = 0,
    folds: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """ROC curve with a pointwise band: patients of each class drawn anew, vertical averaging (Fawcett 2006).

    With folds it is the mean of their curves, weighted by their pairs; its area is ``auroc`` with these
    folds.

    Returns:
        (false positive rates (101,), sensitivity, its lower and its upper end), each (101,) in [0, 1].
    """
    labels, scores = checked(labels, scores)
    grid = np.linspace(0, 1, 101)
    parts = ranked_parts(labels, scores, folds)
    sets = [(p.share, scores[p.members & labels], scores[p.members & ~labels]) for p in parts]
    rng = np.random.default_rng(seed)

    def curve(drawn: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        parts_of = [share * _sensitivities(drawn(pos), drawn(neg), grid) for share, pos, neg in sets]
        return np.asarray(np.sum(parts_of, axis=0))

    curves = [curve(lambda values: rng.choice(values, len(values))) for _ in range(draws)]
    lower, upper = np.quantile(curves, tails(level), axis=0)
    return grid, curve(lambda values: values), lower, upper


def _sensitivities(positive: np.ndarray, negative: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """The largest sensitivity of a threshold whose false positive rate is at most each of ``rates``."""
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    true_rate = 1 - np.searchsorted(np.sort(positive), thresholds) / len(positive)
    false_rate = 1 - np.searchsorted(np.sort(negative), thresholds) / len(negative)
    allowed = np.searchsorted(false_rate, rates + 1e-12, side="right")
    return np.r_[0.0, true_rate][allowed]


def youden_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Threshold with the largest sensitivity + specificity - 1 (Youden 1950); positive is score >= threshold.

    Returns:
        One of the scores; with ties the highest, which gives the fewest positive decisions.
    """
    labels, scores = checked(labels, scores)
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
    labels, scores = checked(labels, scores)
    if np.isnan(threshold):
        raise InputError("Expected a threshold, got NaN.")
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


def _exchanged(
    labels: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray],
    folds: tuple[np.ndarray | None, np.ndarray | None],
    difference: float,
) -> float:
    """Two-sided p of ``difference``: each patient's ranks in the two scores are exchanged at random."""
    ranks = []
    for values, of in zip(scores, folds, strict=True):
        place = np.zeros(len(labels))
        for part in ranked_parts(labels, values, of):
            place[part.members] = stats.rankdata(values[part.members]) / part.members.sum()
        ranks.append(place)
    swapped = np.random.default_rng(0).random((PERMUTATIONS, len(labels))) < 0.5
    one, other = np.where(swapped, ranks[1], ranks[0]), np.where(swapped, ranks[0], ranks[1])
    gaps = areas_of_rows(labels, one, folds[0]) - areas_of_rows(labels, other, folds[1])
    beyond = int(np.count_nonzero(np.abs(gaps) >= abs(difference) - 1e-12))
    return (beyond + 1) / (PERMUTATIONS + 1)
