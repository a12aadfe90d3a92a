"""Replaces a bundle, and calibrates its PE score; for steps that make calibrated bundles."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xray2ctpa_core import config as configuration
from xray2ctpa_core.cli.stage import CONFIG_FILE, Bar
from xray2ctpa_core.config import replacing
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.explanation.gradcam import gradcam_peak
from xray2ctpa_core.metrics.calibration import Calibration, fit_platt
from xray2ctpa_core.metrics.classification import youden_threshold
from xray2ctpa_core.pipelines.bundle import BUNDLE_FILE, FULL_HEAT, PEOperatingPoint, write_bundle_json
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.simulation.signs import PREVALENCE

INTENDED_USE = (
    "Demonstration of the software and research on virtual patients. Not for patient care: a generated CTPA "
    "is a hypothesis, never a diagnosis."
)
#: Quantile of the largest heat in the volumes of calibration patients that is mapped to 1.
FULL_HEAT_QUANTILE = 0.75


def replace_bundle(config: Any, out: Path, make: Callable[[Path], None]) -> None:
    """Makes a bundle beside ``out`` and moves it there when it is complete; saves the configuration beside
    it. Raises InputError if ``out`` holds anything but a bundle."""
    others = {p.name for p in out.iterdir()} - {CONFIG_FILE} if out.is_dir() else set()
    if others and BUNDLE_FILE not in others:
        raise InputError(f"Expected {out} to be new or a bundle, it holds {', '.join(sorted(others))}.")
    configuration.save(config, out.with_name(f"{out.name}-{CONFIG_FILE}"))
    with replacing(out) as partial:
        make(partial)


def write_calibration(
    out: Path,
    pipeline: XRay2CTPAPipeline,
    logits: np.ndarray,
    labels: np.ndarray,
    latents: Sequence[torch.Tensor],
) -> None:
    """Writes probability, threshold and the scale of Grad-CAM into the bundle ``out``.

    Args:
        out: folder of the bundle of ``pipeline``.
        pipeline: of the calibrated classifier.
        logits, labels: (N,) of generated volumes of virtual patients.
        latents: of some of them, each (1, C, D, h, w).
    """
    fitted = fit_platt(logits, labels, PREVALENCE)
    if fitted.slope <= 0:  # the logits do not discriminate PE: every patient gets the prevalence
        fitted = Calibration(0.0, float(np.log(PREVALENCE / (1 - PREVALENCE))))
    threshold = float(youden_threshold(labels, fitted.probability(logits)))
    point = PEOperatingPoint(
        threshold=min(max(threshold, 1e-3), 1 - 1e-3),
        platt_a=float(fitted.slope),
        platt_b=float(fitted.intercept),
        calibrated=True,
    )
    heat = full_heat(pipeline, latents)
    print(f"Grad-CAM heat that counts as 1: {heat}")
    metrics = pipeline.bundle.metrics | ({} if heat is None else {FULL_HEAT: heat})
    write_bundle_json(out, replace(pipeline.bundle, pe=point, metrics=metrics))


def full_heat(pipeline: XRay2CTPAPipeline, latents: Sequence[torch.Tensor]) -> float | None:
    """The largest Grad-CAM heat that a quarter of the generated latents (1, C, D, h, w) reach; None if all
    heat is 0.

    In volumes without visible signs the largest heat is about a tenth of that.
    """
    classifier, grid = pipeline.pe_classifier, pipeline.bundle.geometry.grid
    bar = Bar("heat")
    peaks = []
    for number, case in enumerate(latents, 1):
        peaks.append(gradcam_peak(classifier, classifier.gradcam_layer, case, grid))
        bar(number, len(latents))
    heat = float(np.quantile(peaks, FULL_HEAT_QUANTILE)) if peaks else 0.0
    return heat if heat > 0 else None
