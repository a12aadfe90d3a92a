"""How well scores tell patients with from without: AUROC with DeLong's interval and test, cut-offs.

Scores of cross-validation come from several models, whose scales differ: with ``folds`` only patients of one
fold are ranked against each other, and the folds' areas are averaged.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, logit

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import (
    Interval,
    normal_quantile,
    tails,
    wilson,
    without_interval,
)

#: Exchanges of the two scores that the permutation test draws.
PERMUTATIONS = 2000


def auroc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None = None) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties half.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) finite, higher = more likely positive; any scale.
        folds: (N,) whose model gave each score: pairs are of one fold. None for one model.
    """
    labels, scores = _checked(labels, scores)
    return sum(part.share * part.area for part in _parts(labels, scores, folds))


def delong_interval(
    labels: np.ndarray, scores: np.ndarray, level: float = 0.95, folds: np.ndarray | None = None
) -> Interval:
    """AUROC with the interval of DeLong et al. (Biometrics 44, 1988, 837) on the logit scale.

    With 10 to 20 patients a side at an area of 0.9 it covers 0.95 to 0.98, where the plain interval covers
    0.79 to 0.89. Where DeLong's variance is 0 (perfect separation, equal scores) it is Newcombe's method 5
    (Statistics in Medicine 25, 2006, 559), which needs the counts alone.

    Args:
        labels, scores, folds: as of ``auroc``; the areas of folds count by their pairs.
        level: confidence, between 0 and 1.

    Raises:
        InputError: as ``auroc``; at least 2 patients of each class are needed in each fold.
    """
    labels, scores = _checked(labels, scores)
    return _interval(_parts(labels, scores, folds), level)


def mean_auroc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray, level: float = 0.95) -> Interval:
    """Mean over folds of the AUROC, as cross-validation reports it: ``delong_interval``, each fold alike."""
    labels, scores = _checked(labels, scores)
    return _interval(_parts(labels, scores, folds, by_pairs=False), level)


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
        first_folds, second_folds: (N,) as of ``auroc``; the two may be folded differently.

    Returns:
        (first - second with its interval, two-sided p). Where the variance is 0 there is no interval; p is
        then 1 for equal areas, else from exchanging the two ranks of each patient at random (Venkatraman and
        Begg, Biometrika 83, 1996, 835).
    """
    labels, first = _checked(labels, first)
    _, second = _checked(labels, second)
    a, b = _parts(labels, first, first_folds), _parts(labels, second, second_folds)
    difference = float(sum(p.share * p.area for p in a) - sum(p.share * p.area for p in b))
    error = float(np.sqrt(np.square(_influence(a, len(labels)) - _influence(b, len(labels))).sum()))
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

    Of folds it is the mean of their curves, by their pairs, whose area is ``auroc`` with these folds.

    Returns:
        (false positive rates (101,), sensitivity, its lower and its upper end), each (101,) in [0, 1].
    """
    labels, scores = _checked(labels, scores)
    grid = np.linspace(0, 1, 101)
    parts = _parts(labels, scores, folds)
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


@dataclass(frozen=True)
class _Part:
    """The patients of one fold and their ranking.

    Attributes:
        members: (N,) bool.
        share: of this fold in the mean.
        area: of the fold.
        influence: (N,) how each patient moves the area, 0 outside; the squares sum to DeLong's variance.
        counts: with and without.
    """

    members: np.ndarray
    share: float
    area: float
    influence: np.ndarray
    counts: tuple[int, int]


def _parts(
    labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None, by_pairs: bool = True
) -> list[_Part]:
    """The folds that hold both classes; the others have no pair to rank."""
    of = np.zeros(len(labels), dtype=int) if folds is None else np.asarray(folds)
    if of.shape != labels.shape:
        raise InputError(f"Expected one fold a patient, got shapes {of.shape} and {labels.shape}.")
    members = [of == fold for fold in np.unique(of)]
    counts = [(int((labels & m).sum()), int((~labels & m).sum())) for m in members]
    weights = [float(p * n if by_pairs else min(p, n) > 0) for p, n in counts]
    if not sum(weights):
        raise InputError("Expected a fold with patients of both classes, got none.")
    return [
        _Part(m, weight / sum(weights), *_placements(labels, scores, m), count)
        for m, weight, count in zip(members, weights, counts, strict=True)
        if weight
    ]


def _placements(labels: np.ndarray, scores: np.ndarray, members: np.ndarray) -> tuple[float, np.ndarray]:
    """Area and influences of one fold, of DeLong's components by mid-ranks (Sun and Xu 2014)."""
    area, influence = 0.0, np.zeros(len(labels))
    sides = (members & labels, members & ~labels)
    ranks = np.zeros(len(labels))
    ranks[members] = stats.rankdata(scores[members])
    for positive, (own, other) in ((True, sides), (False, sides[::-1])):
        count = int(np.count_nonzero(own))
        below = (ranks[own] - stats.rankdata(scores[own])) / np.count_nonzero(other)
        component = below if positive else 1 - below
        area = float(component.mean())
        influence[own] = (component - area) / np.sqrt(count * max(count - 1, 1))
    return area, influence


def _influence(parts: list[_Part], count: int) -> np.ndarray:
    """(N,) how each patient moves the mean over the folds; its squares sum to the mean's variance."""
    for part in parts:
        if min(part.counts) < 2:
            raise InputError(
                f"DeLong needs at least 2 patients of each class, got {part.counts[0]} and {part.counts[1]}"
                + (" in a fold." if len(parts) > 1 else ".")
            )
    return sum((part.share * part.influence for part in parts), np.zeros(count))


def _interval(parts: list[_Part], level: float) -> Interval:
    """DeLong's interval on the logit scale, Newcombe's where the variance is 0."""
    z = normal_quantile(level)
    area = float(sum(part.share * part.area for part in parts))
    error = float(np.sqrt(np.square(_influence(parts, len(parts[0].members))).sum()))
    if error < 1e-12:
        return _newcombe(parts, area, z)
    reach = z * error / (area * (1 - area))
    return Interval(area, float(expit(logit(area) - reach)), float(expit(logit(area) + reach)))


def _newcombe(parts: list[_Part], area: float, z: float) -> Interval:
    """The areas whose distance from ``area`` is at most z standard deviations of their own."""

    def excess(theta: float) -> float:
        variance = sum(part.share**2 * _variance_at(theta, *part.counts) for part in parts)
        return abs(theta - area) - z * float(np.sqrt(variance))

    least = 1e-9
    lower = 0.0 if area < least else brentq(excess, least, max(area - least, 2 * least))
    upper = 1.0 if area > 1 - least else brentq(excess, min(area + least, 1 - 2 * least), 1 - least)
    return Interval(area, float(lower), float(upper))


def _variance_at(theta: float, positives: int, negatives: int) -> float:
    """Of an area of ``theta``, by Hanley and McNeil 1982 with Newcombe's equal counts in the numerator."""
    half = (positives + negatives) / 2 - 1
    inner = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
    return theta * (1 - theta) * inner / (positives * negatives)


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
        for part in _parts(labels, values, of):
            place[part.members] = stats.rankdata(values[part.members]) / part.members.sum()
        ranks.append(place)
    swapped = np.random.default_rng(0).random((PERMUTATIONS, len(labels))) < 0.5
    one, other = np.where(swapped, ranks[1], ranks[0]), np.where(swapped, ranks[0], ranks[1])
    gaps = _areas(labels, one, folds[0]) - _areas(labels, other, folds[1])
    beyond = int(np.count_nonzero(np.abs(gaps) >= abs(difference) - 1e-12))
    return (beyond + 1) / (PERMUTATIONS + 1)


def _areas(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None) -> np.ndarray:
    """(K,) ``auroc`` of each row of scores (K, N), by the positives' ranks (Mann and Whitney 1947)."""
    areas = np.zeros(len(scores))
    for part in _parts(labels, scores[0], folds):
        positives, negatives = part.counts
        ranks = stats.rankdata(scores[:, part.members], axis=1)[:, labels[part.members]]
        above = ranks.sum(axis=1) - positives * (positives + 1) / 2
        areas += part.share * above / (positives * negatives)
    return areas


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise InputError(f"Expected one label a score, got shapes {labels.shape} and {scores.shape}.")
    if not np.isfinite(scores).all():
        raise InputError("Scores must be finite, got NaN or infinity.")
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise InputError(f"Labels must be 0 and 1, both present, got {np.unique(labels).tolist()[:5]}.")
    return labels.astype(bool), scores
