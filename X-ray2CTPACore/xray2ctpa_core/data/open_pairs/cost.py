"""What a recipe takes on so many pairs: disk, processor time, optimiser steps, from one measured unit of each
step (Training/measure_recipe.py)."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from xray2ctpa_core.errors import InputError

#: Units of a step: a study that is preprocessed or encoded, an optimiser step, a sample that is generated.
STUDY, STEP, SAMPLE = "study", "step", "sample"
_OF_STUDIES = ("ctpa", "radiographs", "drr", "latents")
#: The step whose bundle generates, and what it is measured by.
_PACK = "pack"
#: Samples of each pair by the protocol: one, and the mean of eight.
PROTOCOL_SAMPLES = 9


class PlannedStep(Protocol):
    """What is read of a step of a recipe."""

    name: str
    kind: str
    settings: Any


@dataclass(frozen=True)
class Machine:
    """What was measured.

    Attributes:
        name: of a core of the processor, or of the GPU.
        gpu: whether it has one.
        steps: of a recipe, by name: ``seconds`` and ``megabytes`` of one unit, and of a bundle the
            ``sampling_step_seconds`` beside.
    """

    name: str
    gpu: bool
    steps: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class StepCost:
    """Of one step.

    Attributes:
        step: its name.
        count, unit: how many units of it.
        seconds: of all; of one core for STUDY, of the machine for the others; None where not measured.
        megabytes: of disk; None where not measured.
        batch: pairs of an optimiser step; 0 where it does not train.
    """

    step: str
    count: int
    unit: str
    seconds: float | None
    megabytes: float | None
    batch: int = 0


def unit_of(step: PlannedStep) -> str | None:
    """What a step's time is counted in; None for one that generates with what others made, or takes no time
    worth counting."""
    if step.kind in _OF_STUDIES:
        return STUDY
    if hasattr(step.settings, "learning_rate"):
        return STEP
    return SAMPLE if step.name == _PACK else None


def read_measured(path: Path, recipe: str) -> Machine:
    """What Training/measure_recipe.py wrote: of one recipe, or a file of several by their names.

    Raises:
        InputError: no such file, or another one.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        found = record.get("recipes", {record.get("recipe"): record.get("steps")})
        machine = record["machine"]
        name = machine["gpu"] or f"one core of {machine['processor']}"
        return Machine(name, bool(machine["gpu"]), dict(found.get(recipe) or {}))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"Expected what measure_recipe.py measured in {path}, got: {error}.", "Measure it anew."
        ) from error


def recipe_cost(
    planned: Iterable[PlannedStep], pairs: int, tested: int, measured: Machine
) -> Iterator[StepCost]:
    """The cost of each step of a recipe that takes time.

    Args:
        planned: the recipe's steps, in order.
        pairs: all.
        tested: those of the test split.
        measured: what one unit of each step takes.
    """
    for step in planned:
        one, unit = measured.steps.get(step.name, {}), unit_of(step)
        seconds, megabytes = one.get("seconds"), one.get("megabytes")
        if unit == STUDY:
            yield StepCost(step.name, pairs, unit, times(pairs, seconds), times(pairs, megabytes))
        elif unit == STEP:
            steps = step.settings.steps
            yield StepCost(step.name, steps, unit, times(steps, seconds), megabytes, step.settings.batch_size)
        elif unit == SAMPLE:
            count = tested * PROTOCOL_SAMPLES
            sampling = one.get("sampling_step_seconds")
            each = None if seconds is None or sampling is None else seconds + step.settings.steps * sampling
            yield StepCost("evaluation", count, unit, times(count, each), megabytes)


def times(count: int, each: float | None) -> float | None:
    """``count`` of what ``each`` takes; None where that is not known."""
    return None if each is None else count * each
