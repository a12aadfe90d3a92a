"""Real radiographs without a CTPA: does the projection of the generated volume agree with the film?"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.errors import InputError, NotFrontalCXRError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.metrics.intervals import bootstrap_mean
from xray2ctpa_core.pipelines.evaluation.protocol import EvaluatedPipeline


def evaluate_films(
    folder: Path,
    pipelines: Sequence[tuple[str, EvaluatedPipeline]],
    count: int,
    steps: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """One volume of each of ``count`` radiographs, taken evenly from all files below ``folder``.

    Args:
        folder: radiographs in any readable form, in folders of any depth.
        pipelines: (label, pipeline).
        count: radiographs wanted; all where there are fewer.
        steps: sampling steps, 0 for the bundle's.
        seed: of the sampling.
        progress: called with (done, of) after each radiograph.

    Returns:
        JSON-ready: folder (its name), films, and per bundle: bundle, accepted, film_correlation (an interval
        over the accepted films; None where none was).

    Raises:
        InputError: no file below ``folder``, or one that is no readable radiograph.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name[0] != ".")
    if not files:
        raise InputError(f"Expected radiographs below {folder}, found none.")
    chosen = [files[i] for i in sorted({round(i) for i in np.linspace(0, len(files) - 1, count)})]
    found: dict[str, list[float]] = {name: [] for name, _ in pipelines}
    for number, file in enumerate(chosen, 1):
        radiograph = read_radiograph(file)
        for name, pipeline in pipelines:
            try:
                result = pipeline(radiograph, num_inference_steps=steps or None, generator=seed)
            except NotFrontalCXRError:
                continue
            found[name].append(result.consistency["frontal_correlation"])
        if progress is not None:
            progress(number, len(chosen))
    entries = [
        {
            "bundle": name,
            "accepted": len(values),
            "film_correlation": asdict(bootstrap_mean(np.array(values))) if values else None,
        }
        for name, values in found.items()
    ]
    return {"folder": Path(folder).resolve().name, "films": len(chosen), "bundles": entries}
