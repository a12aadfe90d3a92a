"""Ranking of patients within folds: areas under ROC curves, influence of each patient, intervals."""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, logit

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import Interval, normal_quantile


@dataclass(frozen=True)
class Part:
    """The patients of one fold and their ranking.

    Attributes:
        members: (N,) bool, whether a patient belongs to the fold.
        share: weight of this fold in the mean.
        area: area under the fold's ROC curve.
        influence: (N,) influence of each patient on the area, 0 outside; the squares sum to DeLong's
        variance.
        counts: numbers of patients with and without disease.
    """

    members: np.ndarray
    share: float
    area: float
    influence: np.ndarray
    counts: tuple[int, int]


def ranked_parts(
    labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None, by_pairs: bool = True
) -> list[Part]:
    """The folds with patients of both classes; the others contain no pair to rank."""
    of = np.zeros(len(labels), dtype=int) if folds is None else np.asarray(folds)
    if of.shape != labels.shape:
        raise InputError(f"Expected one fold a patient, got shapes {of.shape} and {labels.shape}.")
    members = [of == fold for fold in np.unique(of)]
    counts = [(int((labels & m).sum()), int((~labels & m).sum())) for m in members]
    weights = [float(p * n if by_pairs else min(p, n) > 0) for p, n in counts]
    if not sum(weights):
        raise InputError("Expected a fold with patients of both classes, got none.")
    return [
        Part(m, weight / sum(weights), *_placements(labels, scores, m), count)
        for m, weight, count in zip(members, weights, counts, strict=True)
        if weight
    ]


def _placements(labels: np.ndarray, scores: np.ndarray, members: np.ndarray) -> tuple[float, np.ndarray]:
    """Area and influences of one fold, from DeLong's components by mid-ranks (Sun and Xu 2014)."""
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


def influence_of(parts: list[Part], count: int) -> np.ndarray:
    """(N,) influence of each patient on the mean over the folds; the squares sum to the mean's variance."""
    for part in parts:
        if min(part.counts) < 2:
            raise InputError(
                f"DeLong needs at least 2 patients of each class, got {part.counts[0]} and {part.counts[1]}"
                + (" in a fold." if len(parts) > 1 else ".")
            )
    return sum((part.share * part.influence for part in parts), np.zeros(count))


def area_interval(parts: list[Part], level: float) -> Interval:
    """DeLong's interval on the logit scale, Newcombe's where the variance is 0."""
    z = normal_quantile(level)
    area = float(sum(part.share * part.area for part in parts))
    error = float(np.sqrt(np.square(influence_of(parts, len(parts[0].members))).sum()))
    if error < 1e-12:
        return _newcombe(parts, area, z)
    reach = z * error / (area * (1 - area))
    return Interval(area, float(expit(logit(area) - reach)), float(expit(logit(area) + reach)))


def _newcombe(parts: list[Part], area: float, z: float) -> Interval:
    """The areas whose distance from ``area`` is at most z standard deviations of their own."""

    def excess(theta: float) -> float:
        variance = sum(part.share**2 * _variance_at(theta, *part.counts) for part in parts)
        return abs(theta - area) - z * float(np.sqrt(variance))

    least = 1e-9
    lower = 0.0 if area < least else brentq(excess, least, max(area - least, 2 * least))
    upper = 1.0 if area > 1 - least else brentq(excess, min(area + least, 1 - 2 * least), 1 - least)
    return Interval(area, float(lower), float(upper))


def _variance_at(theta: float, positives: int, negatives: int) -> float:
    """Variance of an area ``theta``, by Hanley and McNeil 1982 with Newcombe's equal counts in the
    numerator."""
    half = (positives + negatives) / 2 - 1
    inner = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
    return theta * (1 - theta) * inner / (positives * negatives)


def areas_of_rows(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None) -> np.ndarray:
    """(K,) ``auroc`` of each row of scores (K, N), by the positives' ranks (Mann and Whitney 1947)."""
    areas = np.zeros(len(scores))
    for part in ranked_parts(labels, scores[0], folds):
        positives, negatives = part.counts
        ranks = stats.rankdata(scores[:, part.members], axis=1)[:, labels[part.members]]
        above = ranks.sum(axis=1) - positives * (positives + 1) / 2
        areas += part.share * above / (positives * negatives)
    return areas


def checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) as bool and scores (N,) as float64; raises InputError where they cannot be ranked."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise InputError(f"Expected one label a score, got shapes {labels.shape} and {scores.shape}.")
    if not np.isfinite(scores).all():
        raise InputError("Scores must be finite, got NaN or infinity.")
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise InputError(f"Labels must be 0 and 1, both present, got {np.unique(labels).tolist()[:5]}.")
    return labels.astype(bool), scores
