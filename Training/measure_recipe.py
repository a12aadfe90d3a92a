"""Measures what each step of a recipe takes on this machine, at its real size, on a few of your studies.

    python Training/measure_recipe.py open-pairs --data cohort --out runs/measured
    python Training/open_pairs.py cost cohort open-pairs --measured runs/measured/measured.json

Preprocesses and encodes three studies, makes three optimiser steps of every training step, generates with
the bundle, and writes OUT/measured.json: what one unit of each step takes. A stopped run is resumed.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from kinds import KINDS

from xray2ctpa_core.cli.recipe import Runner
from xray2ctpa_core.config import read_json_lines, write_json
from xray2ctpa_core.data.index import INDEX_FILE, write_index
from xray2ctpa_core.data.open_pairs.cost import STEP, STUDY, unit_of
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.data.splits import TEST, TRAIN, VALIDATION
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.training.loop import LOG_FILE
from xray2ctpa_core.training.recipe import Step, read_recipe

HERE = Path(__file__).resolve().parent
MEASURED_FILE = "measured.json"
#: Studies of each split: the least with which every step runs.
STUDIES = {TRAIN: 1, VALIDATION: 1, TEST: 1}
#: Optimiser steps; the first warms up and is not counted.
OPTIMISER_STEPS = 3


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="name of a recipe in recipes/")
    parser.add_argument("--data", type=Path, required=True, help="studies of all three splits, studies.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--set", nargs="+", default=[], metavar="STEP.KEY=VALUE", help="as of train.py")
    args = parser.parse_args(arguments)
    try:
        data = few_studies(args.data, args.out / "studies")
        settings = {name: kind.settings for name, kind in KINDS.items()}
        path = HERE / "recipes" / f"{args.recipe}.toml"
        recipe = read_recipe(path, {"data": str(data), "out": str(args.out)}, args.set, settings)
        place = args.out / MEASURED_FILE
        steps = json.loads(place.read_text(encoding="utf-8"))["steps"] if place.is_file() else {}
        for step in recipe.steps:
            if unit_of(step) is None or step.name in steps:
                continue
            steps[step.name] = measured(step, args.recipe, data, args.out, args.set)
            record = {"machine": machine(), "recipe": args.recipe, "steps": steps}
            write_json(place, record, indent=1)
            print(f"measured {step.name}: {steps[step.name]}", flush=True)
    except XRay2CTPAError as error:
        print(f"Error: {error.message}\n{error.hint}".rstrip(), file=sys.stderr)
        return error.exit_code
    return 0


def few_studies(data: Path, out: Path) -> Path:
    """A folder whose index has STUDIES of each split of ``data``."""
    studies = read_folder(data, data / "studies.csv")
    chosen = [s for split, count in STUDIES.items() for s in [s for s in studies if s.split == split][:count]]
    if len(chosen) < sum(STUDIES.values()):
        wanted = ", ".join(f"{count} {split}" for split, count in STUDIES.items())
        raise InputError(
            f"Expected studies of each split ({wanted}) in {data}, got {len(chosen)} of them.",
            "Fetch and prepare more.",
        )
    write_index(out / INDEX_FILE, chosen)
    return out


def measured(step: Step, recipe: str, data: Path, out: Path, more: list[str]) -> dict[str, float]:
    """What one unit of the step takes: seconds, and what it leaves on the disk."""
    unit = unit_of(step)
    changes = [f"{step.name}.workers=1"] if hasattr(step.settings, "workers") and unit == STUDY else []
    if unit == STEP:
        values = (f"steps={OPTIMISER_STEPS}", "log_every=1", "workers=0", "tensorboard=false")
        changes = [f"{step.name}.{value}" for value in values]
    words = [recipe, "--data", str(data), "--out", str(out), "--only", step.name]
    if more or changes:
        words += ["--set", *more, *changes]
    first = processor_seconds(step, words)
    if unit == STUDY:
        again = processor_seconds(step, words)  # nothing is left to do
        count = sum(STUDIES.values())
        return {
            "seconds": round(max(first - again, 0.0) / count, 3),
            "megabytes": megabytes(step.out) / count,
        }
    if unit == STEP:
        return {"seconds": round(seconds_of_a_step(step), 3), "megabytes": megabytes(step.out)}
    return seconds_of_a_sample(step.out) | {"megabytes": megabytes(step.out)}


def processor_seconds(step: Step, words: list[str]) -> float:
    """Runs the step in this process, and returns the processor time that it took, without imports; raises
    InputError where it failed."""
    importlib.import_module(KINDS[step.kind].module)
    before = sum(os.times()[:4])
    code = Runner(HERE, KINDS).main(None, words)
    if code:
        raise InputError(f"Expected exit code 0, got {code} of: train.py {' '.join(words)}")
    return sum(os.times()[:4]) - before


def seconds_of_a_step(step: Step) -> float:
    """Time of an optimiser step after the first, by the log of the training loop: of the GPU, or of one
    processor."""
    lines = read_json_lines(step.out / LOG_FILE)
    if torch.cuda.is_available():
        cases = step.settings.batch_size * step.settings.accumulate
        elapsed = {line["step"]: line["step"] * cases / line["samples_per_s"] for line in lines}
    else:
        elapsed = {line["step"]: line["processor_s"] for line in lines}
    return (elapsed[OPTIMISER_STEPS] - elapsed[1]) / (OPTIMISER_STEPS - 1)


def seconds_of_a_sample(bundle: Path) -> dict[str, float]:
    """Time of a sample without its sampling steps, and of one of these: of runs with one step and three."""
    pipeline = XRay2CTPAPipeline.from_pretrained(bundle)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    radiograph = read_radiograph(SAMPLE_CXR)
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    taken = {}
    for steps in (1, 1, 3):  # the first one warms up
        began = clock()
        pipeline(radiograph, num_inference_steps=steps, num_samples=1, seed=0)
        taken[steps] = clock() - began
    step = max(taken[3] - taken[1], 0.0) / 2
    return {"seconds": round(max(taken[1] - step, 0.0), 3), "sampling_step_seconds": round(step, 3)}


def megabytes(folder: Path) -> float:
    """MB of a step's files, without checkpoints that it removes."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 2)


def machine() -> dict[str, Any]:
    """What the times are of."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"processor": name, "gpu": gpu}


if __name__ == "__main__":
    sys.exit(main())
