"""The numbers of a classifier's arm: ranking, decisions at thresholds from validation, calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from xray2ctpa_core.data.splits import TEST, VALIDATION
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.tables.arms import Prediction
from xray2ctpa_core.evaluation.tables.cells import Cell, Comparison
from xray2ctpa_core.metrics.calibration import (
    LEAST_PROBABILITY,
    Calibration,
    expected_calibration_error,
    fit_platt,
)
from xray2ctpa_core.metrics.classification import (
    auroc,
    delong_interval,
    delong_test,
    mean_auroc,
    operating_point,
    youden_threshold,
)
from xray2ctpa_core.metrics.intervals import Interval, mean_interval
from xray2ctpa_core.metrics.mcnemar import mcnemar

RATES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


@dataclass(frozen=True)
class Decisions:
    """A classifier's test patients of all folds, each once, with the decisions for them.

    Attributes:
        patients: names.
        folds: (N,) fold of each.
        labels: (N,) 0 or 1.
        scores: (N,) as given.
        calls: (N,) bool, or None without validation patients for a threshold.
        probabilities: (N,) in [0, 1] by Platt scaling on the fold's validation patients, or None.
    """

    patients: tuple[str, ...]
    folds: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    calls: np.ndarray | None
    probabilities: np.ndarray | None


def decide(predictions: Sequence[Prediction]) -> Decisions:
    """The test patients with decisions and probabilities according to their folds' validation patients.

    Threshold: Youden's index on the validation patients of the same fold, never on test patients. Scores that
    are all 0 or 1 (a reader's calls) are decisions already. Probability: Platt scaling on the same validation
    patients; scores within [0, 1] count as probabilities, others as logits.
    """
    test = [row for row in predictions if row.split == TEST]
    labels, scores = _labels_scores(test)
    folds = np.array([row.fold for row in test])
    calls = scores >= 0.5 if set(scores) <= {0.0, 1.0} else None
    probabilities = None
    held = {fold: _of(predictions, fold, VALIDATION) for fold in sorted(set(folds.tolist()))}
    if all(held.values()):
        are_probabilities = all(0 <= row.score <= 1 for row in predictions)
        chosen, fitted = np.zeros(len(test), dtype=bool), np.zeros(len(test))
        for fold, rows in held.items():
            inside = folds == fold
            known, given = _labels_scores(rows)
            chosen[inside] = scores[inside] >= youden_threshold(known, given)
            fitted[inside] = _platt(known, given, scores[inside], are_probabilities)
        calls, probabilities = chosen if calls is None else calls, fitted
    return Decisions(tuple(row.patient for row in test), folds, labels, scores, calls, probabilities)


def classifier_numbers(tested: Decisions) -> dict[str, Cell]:
    """A classifier's numbers for a table's columns, without those that could not be measured.

    Returns:
        auroc: of all test patients, each ranked against those of the same fold, for scores of two models
        have no common scale; folds count by their pairs. auroc_folds: folds count alike. Both with DeLong's
        interval, where each fold has 2 patients of each class. sensitivity, specificity, ppv, npv, accuracy:
        Wilson's intervals. brier: t interval over patients; ece: 10 bins. brier_raw, ece_raw: of the scores
        as given, where all lie within [0, 1].
    """
    labels, scores, folds = tested.labels, tested.scores, tested.folds
    numbers: dict[str, Cell] = {}
    auroc(labels, scores)  # refuses one class alone
    if _has_variance(labels, folds):
        numbers["auroc"] = delong_interval(labels, scores, folds=folds)
        numbers["auroc_folds"] = mean_auroc(labels, scores, folds)
    if tested.calls is not None:
        point = operating_point(labels, tested.calls.astype(float), 0.5)
        rates: dict[str, Interval] = {name: getattr(point, name) for name in RATES}
        numbers |= {name: rate for name, rate in rates.items() if np.isfinite(rate.estimate)}
    kinds = {"": tested.probabilities, "_raw": scores if scores.min() >= 0 and scores.max() <= 1 else None}
    for suffix, probabilities in kinds.items():
        if probabilities is not None:
            numbers[f"brier{suffix}"] = mean_interval(np.square(probabilities - labels))
            numbers[f"ece{suffix}"] = expected_calibration_error(probabilities, labels)
    return numbers


def compare_aurocs(first: Decisions, second: Decisions) -> Comparison | None:
    """First minus second by DeLong's test for paired scores, each ranked within its folds; None where they
    share too few patients of a fold."""
    a, b = _shared(first, second)
    labels = first.labels[a]
    folds = first.folds[a], second.folds[b]
    if not all(_has_variance(labels, of) for of in folds):
        return None
    difference, p = delong_test(
        labels, first.scores[a], second.scores[b], first_folds=folds[0], second_folds=folds[1]
    )
    return Comparison(len(labels), difference, p)


def compare_accuracies(first: Decisions, second: Decisions) -> Comparison | None:
    """McNemar's exact test of the correctness of two arms' decisions; None without decisions of both."""
    a, b = _shared(first, second)
    if first.calls is None or second.calls is None or not len(a):
        return None
    labels = first.labels[a].astype(bool)
    result = mcnemar(first.calls[a] == labels, second.calls[b] == labels)
    text = f"right alone: {result.first_only} v {result.second_only}"
    return Comparison(len(a), None, result.exact_p, text)


def _has_variance(labels: np.ndarray, folds: np.ndarray) -> bool:
    """Whether each fold has 2 patients of each class, or one class alone (no pair to rank), not all so."""
    counts = [
        (int(part.sum()), int((1 - part).sum())) for f in np.unique(folds) for part in [labels[folds == f]]
    ]
    ranked = [min(pair) for pair in counts if min(pair)]
    return bool(ranked) and min(ranked) >= 2


def _shared(first: Decisions, second: Decisions) -> tuple[np.ndarray, np.ndarray]:
    """Places of the patients that both have; raises InputError where a label differs."""
    place = {patient: number for number, patient in enumerate(second.patients)}
    pairs = [(i, place[patient]) for i, patient in enumerate(first.patients) if patient in place]
    a, b = np.array(pairs, dtype=int).reshape(-1, 2).T
    differ = np.flatnonzero(first.labels[a] != second.labels[b])
    if len(differ):
        raise InputError(
            f"Expected one label a patient in all arms, got two for {first.patients[a[differ[0]]]}.",
            "Compare arms of one data set.",
        )
    return a, b


def _platt(known: np.ndarray, given: np.ndarray, scores: np.ndarray, are_probabilities: bool) -> np.ndarray:
    if are_probabilities:
        given, scores = (logit(np.clip(x, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)) for x in (given, scores))
    fitted: Calibration = fit_platt(given, known)
    return fitted.probability(scores)


def _of(predictions: Sequence[Prediction], fold: int, split: str) -> list[Prediction]:
    return [row for row in predictions if row.fold == fold and row.split == split]


def _labels_scores(rows: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row.label for row in rows]), np.array([row.score for row in rows])
