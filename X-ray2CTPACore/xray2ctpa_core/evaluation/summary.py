"""Rows of an evaluation summed up: means, paired differences and AUROCs, each with its interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import nan
from typing import Any

import numpy as np
from scipy.special import logit

from xray2ctpa_core.evaluation.images import FEATURES
from xray2ctpa_core.evaluation.rows import BASELINES, ONE_SAMPLE, TRUTH, mean_of
from xray2ctpa_core.evaluation.store import Row
from xray2ctpa_core.metrics.calibration import Calibration, brier, expected_calibration_error
from xray2ctpa_core.metrics.classification import delong_interval, delong_test, operating_point
from xray2ctpa_core.metrics.frechet import frechet_interval
from xray2ctpa_core.metrics.intervals import Interval, bootstrap_mean, paired_bootstrap_difference, pearson
from xray2ctpa_core.pipelines.bundle import PEOperatingPoint

#: Column -> (heading, whether higher is better).
IMAGE_COLUMNS = {
    "psnr": ("PSNR dB", True),
    "psnr_paper": ("PSNR dB, -100..900 HU", True),
    "ssim": ("SSIM 3D", True),
    "slice_ssim": ("SSIM, mean slice", True),
    "mae": ("MAE HU", False),
    "perceptual": ("EfficientNet-Lite0 perceptual distance", False),
    "lpips": ("LPIPS (AlexNet)", False),
    "lung_dice": ("lung Dice, frontal", True),
    "heart_dice": ("heart Dice, frontal", True),
    "film_correlation": ("correlation with the film", True),
}
SCORES = {"real": "real latents", "generated": "generated latents", "radiograph": "radiograph alone"}
SIGNS = "signs alone (ceiling)"
GRADCAM = ("gradcam_in_target", "gradcam_chance", "gradcam_in_region")


def summarise(rows: Sequence[Row], bundles: Mapping[str, PEOperatingPoint], samples: int) -> dict[str, Any]:
    """The numbers of the report.

    Args:
        rows: of kind "image" (method, bundle, patient, numbers), "pe" (bundle, patient, pe, signs, logits,
            heat) and "gradcam" (bundle, patient, shares of the heat).
        bundles: name -> how its logits become probability and decision, in the order reported.
        samples: of the averaged method.

    Returns:
        JSON-ready: ``images``, ``differences``, ``classification``, ``comparisons``, ``decisions``,
        ``gradcam``, ``hottest``, ``frechet`` (lists).
    """
    images = [row for row in rows if row["kind"] == "image"]
    pe = [row for row in rows if row["kind"] == "pe"]
    generated = (ONE_SAMPLE, mean_of(samples))
    differences, classification, comparisons, decisions, gradcam, hottest = [], [], [], [], [], []
    for bundle, point in bundles.items():
        own = [row for row in images if row["bundle"] == bundle]
        logits = [row for row in pe if row["bundle"] == bundle]
        differences += _differences(own, bundle, generated)
        classification += _classification(logits, bundle)
        comparisons += _comparisons(logits, bundle)
        decisions += _decisions(logits, bundle, point)
        hottest += _hottest(logits, bundle)
        heats = [row for row in rows if row["kind"] == "gradcam" and row["bundle"] == bundle]
        gradcam += _gradcam([row for row in heats if GRADCAM[0] in row], bundle)
    return {
        "images": [entry for bundle in bundles for entry in _images(images, bundle)],
        "frechet": [entry for bundle in bundles for entry in _frechet(images, bundle)],
        "differences": differences + _between_bundles(images, list(bundles), generated),
        "classification": classification,
        "comparisons": comparisons,
        "decisions": decisions,
        "gradcam": gradcam,
        "hottest": hottest,
    }


def _images(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    entries = []
    for method in _unique(row["method"] for row in rows if row["bundle"] == bundle):
        chosen = [row for row in rows if row["bundle"] == bundle and row["method"] == method]
        entry: dict[str, Any] = {"bundle": bundle, "method": method, "patients": len(chosen)}
        for column in IMAGE_COLUMNS:
            values = _finite(row.get(column) for row in chosen)
            if len(values):
                entry[column] = _interval(bootstrap_mean(values), len(values))
        entries.append(entry)
    return entries


def _frechet(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    """Distances of each method's volumes, as a set, from the patients' own; of 3 patients and more."""
    own = [row for row in rows if row["bundle"] == bundle]
    entries = []
    for method in _unique(row["method"] for row in own if row["method"] != TRUTH):
        made = {row["patient"]: row for row in own if row["method"] == method}
        real = {row["patient"]: row for row in own if row["method"] == TRUTH and row["patient"] in made}
        entry: dict[str, Any] = {}
        for metric, key in FEATURES.items():
            if len(real) >= 3 and all(key in row for row in (*made.values(), *real.values())):
                sets = [[(name, row) for name in side for row in side[name][key]] for side in (real, made)]
                (names_a, a), (names_b, b) = (zip(*rows_of, strict=True) for rows_of in sets)
                interval = frechet_interval(np.array(a), np.array(b), names_a, names_b)
                entry[metric] = _interval(interval, len(real))
        if entry:
            entries.append({"bundle": bundle, "method": method, "patients": len(real)} | entry)
    return entries


def _differences(rows: Sequence[Row], bundle: str, generated: Sequence[str]) -> list[dict[str, Any]]:
    """Each generated method minus each baseline on the patients that both have."""
    entries = []
    for method in generated:
        for baseline in BASELINES:
            first = {row["patient"]: row for row in rows if row["method"] == method}
            second = {row["patient"]: row for row in rows if row["method"] == baseline}
            entry = _paired(first, second)
            if entry:
                entries.append({"bundle": bundle, "method": method, "minus": baseline} | entry)
    return entries


def _between_bundles(
    rows: Sequence[Row], bundles: Sequence[str], generated: Sequence[str]
) -> list[dict[str, Any]]:
    """The first bundle minus every other one, method by method."""
    entries = []
    for other in bundles[1:]:
        for method in generated:
            of = {
                name: {r["patient"]: r for r in rows if r["bundle"] == name and r["method"] == method}
                for name in (bundles[0], other)
            }
            entry = _paired(of[bundles[0]], of[other])
            if entry:
                entries.append(
                    {"bundle": bundles[0], "method": method, "minus": f"{method} of {other}"} | entry
                )
    return entries


def _paired(first: dict[str, Row], second: dict[str, Row]) -> dict[str, Any]:
    shared = sorted(set(first) & set(second))
    entry: dict[str, Any] = {}
    for column in IMAGE_COLUMNS:
        pairs = [(first[name].get(column, nan), second[name].get(column, nan)) for name in shared]
        kept = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        kept = kept[np.isfinite(kept).all(axis=1)]
        if len(kept):
            entry[column] = _interval(paired_bootstrap_difference(kept[:, 0], kept[:, 1]), len(kept))
    return entry


def _classification(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    if not rows:
        return []
    labels = np.array([int(row["pe"]) for row in rows])
    log_odds = logit([row["sign_probability"] for row in rows])
    entries = []
    for column, name in (*SCORES.items(), ("sign_probability", SIGNS)):
        if any(row[column] is None for row in rows):
            continue
        scores = np.array([row[column] for row in rows])
        entry: dict[str, Any] = {"bundle": bundle, "score": name, "positives": int(labels.sum())}
        entry["auroc"] = _interval(delong_interval(labels, scores), len(rows))
        if name != SIGNS and len(rows) > 3 and min(np.ptp(scores), np.ptp(log_odds)) > 0:
            entry["signs"] = _interval(pearson(scores, log_odds), len(rows))
        entries.append(entry)
    return entries


def _comparisons(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    """DeLong's test of each score against the signs."""
    if not rows:
        return []
    labels = np.array([int(row["pe"]) for row in rows])
    signs = np.array([row["sign_probability"] for row in rows])
    entries = []
    for column, name in SCORES.items():
        if all(row[column] is not None for row in rows):
            difference, p = delong_test(labels, np.array([row[column] for row in rows]), signs)
            entries.append(
                {
                    "bundle": bundle,
                    "score": name,
                    "minus": SIGNS,
                    "p": p,
                    "auroc": _interval(difference, len(rows)),
                }
            )
    return entries


def _decisions(rows: Sequence[Row], bundle: str, point: PEOperatingPoint) -> list[dict[str, Any]]:
    """What the bundle says to a user: its probability from generated latents, and its threshold."""
    if not rows:
        return []
    labels = np.array([int(row["pe"]) for row in rows])
    logits = np.array([row["generated"] for row in rows])
    probabilities = Calibration(point.platt_a, point.platt_b).probability(logits)
    rates = asdict(operating_point(labels, probabilities, point.threshold))
    threshold = rates.pop("threshold")
    return [
        {
            "bundle": bundle,
            "n": len(rows),
            "threshold": threshold,
            # Of no patient at all there is no rate.
            **{name: rate if np.isfinite(rate["estimate"]) else None for name, rate in rates.items()},
            "brier": brier(probabilities, labels),
            "ece": expected_calibration_error(probabilities, labels),
        }
    ]


def _gradcam(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    kept = [row for row in rows if all(np.isfinite(row[column]) for column in GRADCAM)]
    if not kept:
        return []
    columns = {column: np.array([row[column] for row in kept]) for column in GRADCAM}
    entry = {name: _interval(bootstrap_mean(values), len(kept)) for name, values in columns.items()}
    gain = paired_bootstrap_difference(columns[GRADCAM[0]], columns[GRADCAM[1]])
    return [{"bundle": bundle} | entry | {"above_chance": _interval(gain, len(kept))}]


def _hottest(rows: Sequence[Row], bundle: str) -> list[dict[str, Any]]:
    """The maps' greatest values, of patients with and without radiographic signs."""
    entry: dict[str, Any] = {}
    for column, signs in (("no_sign", False), ("signs", True)):
        values = np.array([row["heat"] for row in rows if row["signs"] == signs])
        if len(values):
            entry[column] = _interval(bootstrap_mean(values), len(values))
    return [{"bundle": bundle} | entry] if entry else []


def _interval(interval: Interval, count: int) -> dict[str, float]:
    return asdict(interval) | {"n": count}


def _finite(values: Iterable[Any]) -> np.ndarray:
    numbers = np.array([value for value in values if value is not None], dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
