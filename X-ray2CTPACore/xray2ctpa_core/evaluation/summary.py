"""Summary of an evaluation's rows: volumes, differences, PE and Grad-CAM, each number with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.special import logit

from xray2ctpa_core.evaluation.columns import SET_FEATURES, VOLUME_COLUMNS
from xray2ctpa_core.evaluation.numbers import (
    by_patient,
    entries,
    entry,
    mean_of,
    paired_difference_of,
    set_distance,
    unique,
)
from xray2ctpa_core.evaluation.rows import BASELINES, NOT_ALIGNED, ONE_SAMPLE, TRUTH, mean_of_samples
from xray2ctpa_core.evaluation.store import Row
from xray2ctpa_core.metrics.calibration import LEAST_PROBABILITY, brier, expected_calibration_error
from xray2ctpa_core.metrics.classification import delong_interval, delong_test, operating_point
from xray2ctpa_core.metrics.intervals import pearson
from xray2ctpa_core.pipelines.bundle import PEOperatingPoint

SCORES = {"real": "real latents", "generated": "generated latents", "radiograph": "radiograph alone"}
SIGNS = "signs alone (ceiling)"
GRADCAM = ("gradcam_in_target", "gradcam_chance", "gradcam_in_region")


def summarise(
    rows: Sequence[Row], bundles: Mapping[str, PEOperatingPoint | None], samples: int
) -> dict[str, Any]:
    """The numbers of the report.

    Args:
        rows: of kind "image" (method, bundle, patient, numbers), "pe" (bundle, patient, pe, signs, logits,
            heat) and "gradcam" (bundle, patient, shares of the heat).
        bundles: name -> its operating point, in the reported order; None where several are pooled.
        samples: number of averaged samples.

    Returns:
        JSON-ready: ``images``, ``differences``, ``classification``, ``comparisons``, ``decisions``,
        ``gradcam``, ``hottest``, ``frechet`` (lists).
    """
    pe = [row for row in rows if row["kind"] == "pe"]
    classification, comparisons, decisions, gradcam, hottest = [], [], [], [], []
    for bundle, point in bundles.items():
        logits = [row for row in pe if row["bundle"] == bundle]
        classification += _classification(logits, bundle)
        comparisons += _comparisons(logits, bundle)
        decisions += _decisions(logits, bundle, point)
        hottest += _hottest(logits, bundle)
        heats = [row for row in rows if row["kind"] == "gradcam" and row["bundle"] == bundle]
        gradcam += _gradcam([row for row in heats if GRADCAM[0] in row], bundle)
    return summarise_volumes(rows, list(bundles), samples) | {
        "classification": classification,
        "comparisons": comparisons,
        "decisions": decisions,
        "gradcam": gradcam,
        "hottest": hottest,
    }


def summarise_volumes(rows: Sequence[Row], bundles: Sequence[str], samples: int) -> dict[str, Any]:
    """``images``, ``frechet`` and ``differences`` of the rows of kind "image"; JSON-ready."""
    images = [row for row in rows if row["kind"] == "image"]
    of = {
        (bundle, method): by_patient([r for r in images if (r["bundle"], r["method"]) == (bundle, method)])
        for bundle in bundles
        for method in unique(row["method"] for row in images if row["bundle"] == bundle)
    }
    means, distances = [], []
    for (bundle, method), chosen in of.items():
        names = {"bundle": bundle, "method": method, "patients": len(chosen)}
        means.append(names | entries({c: mean_of(chosen.values(), c) for c in VOLUME_COLUMNS}))
        if method != TRUTH and (bundle, TRUTH) in of:
            found = entries({m: set_distance(m, chosen, of[bundle, TRUTH]) for m in SET_FEATURES})
            distances += [names | found] if found else []
    differences = []
    for bundle, method, other, minus in _compared(list(of), bundles, samples):
        pairs = of[bundle, method], of[other]
        found = entries({c: paired_difference_of(*pairs, c) for c in VOLUME_COLUMNS})
        differences += [{"bundle": bundle, "method": method, "minus": minus} | found] if found else []
    return {"images": means, "frechet": distances, "differences": differences}


def _compared(
    there: Sequence[tuple[str, str]], bundles: Sequence[str], samples: int
) -> list[tuple[str, str, tuple[str, str], str]]:
    """(bundle, method, subtracted rows, their name): samples minus baselines, and the first bundle's samples
    minus the others'."""
    generated = (ONE_SAMPLE, NOT_ALIGNED, mean_of_samples(samples))
    wanted = [
        (bundle, method, (bundle, baseline), baseline)
        for bundle in bundles
        for method in generated
        for baseline in BASELINES
    ]
    wanted += [
        (bundles[0], method, (other, method), f"{method} of {other}")
        for other in bundles[1:]
        for method in generated
    ]
    return [w for w in wanted if (w[0], w[1]) in there and w[2] in there]


def _classification(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    if not rows:
        return []
    labels = np.array([int(row["pe"]) for row in rows])
    log_odds = logit([row["sign_probability"] for row in rows])
    found = []
    for column, name in (*SCORES.items(), ("sign_probability", SIGNS)):
        if any(row[column] is None for row in rows):
            continue
        scores = np.array([row[column] for row in rows])
        line: dict[str, Any] = {"bundle": bundle, "score": name, "positives": int(labels.sum())}
        line["auroc"] = entry((delong_interval(labels, scores), len(rows)))
        if column == "generated":  # a probability; the others are logits
            scores = logit(np.clip(scores, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
        if name != SIGNS and len(rows) > 3 and min(np.ptp(scores), np.ptp(log_odds)) > 0:
            line["signs"] = entry((pearson(scores, log_odds), len(rows)))
        found.append(line)
    return found


def _comparisons(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    """DeLong's test of each score against the signs."""
    if not rows:
        return []
    labels = np.array([int(row["pe"]) for row in rows])
    signs = np.array([row["sign_probability"] for row in rows])
    found = []
    for column, name in SCORES.items():
        if all(row[column] is not None for row in rows):
            difference, p = delong_test(labels, np.array([row[column] for row in rows]), signs)
            line = {"bundle": bundle, "score": name, "minus": SIGNS, "p": p}
            found.append(line | {"auroc": entry((difference, len(rows)))})
    return found


def _decisions(rows: Sequence[Row], bundle: str, point: PEOperatingPoint | None) -> list[dict[str, Any]]:
    """The bundle's decisions: the PE probability of one sample at its threshold, which pooled folds lack."""
    if not rows or any(row["generated"] is None for row in rows):
        return []
    labels = np.array([int(row["pe"]) for row in rows])
    probabilities = np.array([row["generated"] for row in rows])
    rates = {} if point is None else asdict(operating_point(labels, probabilities, point.threshold))
    threshold = rates.pop("threshold", None)
    return [
        {
            "bundle": bundle,
            "n": len(rows),
            "threshold": threshold,
            # Without patients there is no rate.
            **{name: rate if np.isfinite(rate["estimate"]) else None for name, rate in rates.items()},
            "brier": brier(probabilities, labels),
            "ece": expected_calibration_error(probabilities, labels),
        }
    ]


def _gradcam(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    kept = by_patient([row for row in rows if all(np.isfinite(row[column]) for column in GRADCAM)])
    if not kept:
        return []
    found = {column: mean_of(kept.values(), column) for column in GRADCAM}
    chance = {name: {GRADCAM[0]: row[GRADCAM[1]]} for name, row in kept.items()}
    gain = paired_difference_of(kept, chance, GRADCAM[0])
    return [{"bundle": bundle} | entries(found | {"above_chance": gain})]


def _hottest(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    """The maps' greatest values, of patients with and without radiographic signs."""
    groups = {"no_sign": False, "signs": True}
    found = entries(
        {name: mean_of([r for r in rows if r["signs"] == signs], "heat") for name, signs in groups.items()}
    )
    return [{"bundle": bundle} | found] if found else []
