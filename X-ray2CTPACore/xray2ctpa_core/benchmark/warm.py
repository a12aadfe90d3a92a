"""Times of a loaded bundle: one radiograph after another, and several samples of one at once."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from xray2ctpa_core.benchmark.timing import interleaved, ratios, spread
from xray2ctpa_core.pipelines.device import choose_device
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.volume import Radiograph

#: Stages without networks, whose share of the total is reported.
BESIDE = ("locate", "align", "check")


def measure_warm(
    radiograph: Radiograph,
    bundle: str,
    steps: int | None,
    samples: int,
    repeats: int,
    device: str,
    precision: str,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Measures a pipeline's calls after the first.

    Args:
        radiograph: used whatever the gate says.
        bundle: name, folder or Hub id.
        steps: of the sampler; None for the bundle's.
        samples: K, of the call that is compared with K calls of one sample.
        repeats: rounds, at least 1, after one to warm up.
        device, precision: as for `generate`.
        progress: called with (what, done, of).

    Returns:
        JSON-ready: device, precision, steps, ``one_s`` of a radiograph with one sample and ``several_s`` with
        ``samples`` of them, as Spread; ``of_one_by_one``, the second divided by K times the first, round by
        round, and ``processor_of_one_by_one``, the same of processor time; ``stages``, seconds of the stages
        of a call with one sample, and ``beside``, the share of BESIDE in it; ``same_voxels``, whether the
        first sample is the same in both; ``not_captured``, why the passes were not captured, or "".
    """
    chosen, precision, dtype = choose_device(device, precision)
    pipeline = XRay2CTPAPipeline.from_pretrained(bundle, torch_dtype=dtype)
    pipeline.place(chosen)
    results: dict[int, Any] = {}

    def call(count: int) -> None:
        results[count] = pipeline(radiograph, num_inference_steps=steps, num_samples=count, force=True)

    actions = {str(count): (lambda count=count: call(count)) for count in (1, samples)}  # type: ignore[misc]
    processor: dict[str, list[float]] = {}
    seconds = interleaved(
        actions, repeats, torch.device(chosen), lambda done, of: progress("warm bundle", done, of), processor
    )
    one, several = seconds["1"], seconds[str(samples)]
    stages = results[1].stage_seconds
    return {
        "bundle": bundle,
        "device": chosen,
        "precision": precision,
        "steps": steps or pipeline.bundle.sampling.steps,
        "samples": samples,
        "one_s": asdict(spread(one)),
        "several_s": asdict(spread(several)),
        "of_one_by_one": asdict(ratios(several, [samples * each for each in one])),
        "processor_of_one_by_one": asdict(
            ratios(processor[str(samples)], [samples * each for each in processor["1"]])
        ),
        "stages": stages,
        "beside": {name: stages[name] / sum(stages.values()) for name in BESIDE},
        "same_voxels": bool((results[1].ctpa.array == results[samples].ctpa.array).all()),
        "not_captured": pipeline.not_captured,
    }
