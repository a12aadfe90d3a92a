"""Real radiographs without a CTPA: agreement with the generated volumes' projections, and share of positive
scores."""

from collections.abc import Callable, Collection, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.errors import InputError, NotFrontalCXRError
from xray2ctpa_core.evaluation.numbers import entry
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.radiograph import radiographs_below, read_radiograph
from xray2ctpa_core.metrics.intervals import mean_interval, wilson


def evaluate_radiographs(
    folder: Path,
    pipelines: Sequence[tuple[str, EvaluatedPipeline]],
    count: int,
    steps: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Generates one volume from each of ``count`` radiographs, evenly spaced among the files below
    ``folder`` that were not used in the training of any bundle.

    Args:
        folder: radiographs in any readable format, in folders of any depth.
        pipelines: (label, pipeline).
        count: number of radiographs; all if there are fewer.
        steps: sampling steps, 0 for the bundle's.
        seed: of the sampling.
        progress: called with (done, of) after each radiograph.

    Returns:
        JSON-ready: folder (its name), radiographs, left_out (number of training radiographs), and for each
        bundle: bundle, accepted, and for the accepted radiographs, None if there are none:
            perspective_correlation (an interval), positive (share at or above the bundle's threshold, an
            interval; None without classifier),
        hottest (least, median and greatest of the volumes' greatest values of Grad-CAM).

    Raises:
        InputError: no file below ``folder`` apart from training radiographs, or an unreadable radiograph.
    """
    files = radiographs_below(folder)
    taught = {sha for _, pipeline in pipelines for sha in _taught_by(pipeline)}
    unseen = [file for file in files if not taught or file_sha256(file) not in taught]
    left_out, files = len(files) - len(unseen), unseen
    if not files:
        raise InputError(
            f"Expected radiographs below {folder} that taught no bundle, found {left_out} that did.",
            "Name a folder of other radiographs.",
        )
    chosen = [files[i] for i in sorted({round(i) for i in np.linspace(0, len(files) - 1, count)})]
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name, _ in pipelines}
    for number, file in enumerate(chosen, 1):
        radiograph = read_radiograph(file)
        for name, pipeline in pipelines:
            try:
                result = pipeline(radiograph, num_inference_steps=steps or None, seed=seed)
            except NotFrontalCXRError:
                continue
            score = nan if result.pe_probability is None else result.pe_probability
            positive = nan if isnan(score) else float(score >= pipeline.bundle.pe.threshold)
            hottest = float(result.gradcam.array.max())
            found[name].append((result.consistency["frontal_correlation"], positive, hottest))
        if progress is not None:
            progress(number, len(chosen))
    entries = [
        {"bundle": name, "accepted": len(values)} | _summed_up(values) for name, values in found.items()
    ]
    name = Path(folder).resolve().name
    return {"folder": name, "radiographs": len(chosen), "left_out": left_out, "bundles": entries}


def _taught_by(pipeline: EvaluatedPipeline) -> Collection[str]:
    return () if pipeline.taught_radiographs is None else pipeline.taught_radiographs.sha256.values()


def _summed_up(values: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Summary of (correlation, whether positive, hottest) of the radiographs."""
    if not values:
        return {"perspective_correlation": None, "positive": None, "hottest": None}
    correlation, positive, hottest = np.array(values).T
    return {
        "perspective_correlation": entry((mean_interval(correlation), len(correlation))),
        "positive": None
        if np.isnan(positive).any()
        else entry((wilson(int(positive.sum()), len(positive)), len(positive))),
        "hottest": [float(value) for value in np.quantile(hottest, (0, 0.5, 1))],
    }
