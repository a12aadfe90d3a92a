"""What a recipe takes on so many pairs: disk, processor time of preprocessing, optimiser steps."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

#: Processor seconds of one pair on one thread (docs/open-pairs.md says where): a CT of 512 x 512 x 250 voxels
#: to the networks' grid; a radiograph to its frame; a computed one.
CT_SECONDS, RADIOGRAPH_SECONDS, DRR_SECONDS = 20.0, 2.5, 15.0
#: Latents take less than this a voxel of the volume.
LATENT_BYTES = 1.5


class PlannedStep(Protocol):
    """What is read of a step of a recipe."""

    name: str
    kind: str
    settings: Any


@dataclass(frozen=True)
class StepCost:
    """Of one step.

    Attributes:
        step: its name.
        megabytes: of disk, at most; 0 where it writes networks alone.
        seconds: of one processor; 0 where it trains.
        steps, batch: optimiser steps and pairs in each; 0 where it does not train.
    """

    step: str
    megabytes: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    batch: int = 0


def recipe_cost(planned: Iterable[PlannedStep], pairs: int) -> Iterator[StepCost]:
    """The cost of each step of a recipe on ``pairs`` pairs, in order."""
    voxels = 0
    for step in planned:
        settings = step.settings
        if step.kind == "ctpa":
            voxels = prod(settings.shape)
            yield StepCost(step.name, pairs * voxels * 2 / 1e6, pairs * CT_SECONDS)
        elif step.kind == "drr":
            yield StepCost(step.name, pairs * settings.pixels**2 * 4 / 1e6, pairs * DRR_SECONDS)
        elif step.kind == "radiographs":
            pixels = settings.pixels or (256 if settings.input == "frame" else 224)
            images = 1 + settings.variants
            megabytes = pairs * images * pixels**2 * (2 if settings.variants else 4) / 1e6
            yield StepCost(step.name, megabytes, pairs * images * RADIOGRAPH_SECONDS)
        elif step.kind == "latents":
            yield StepCost(step.name, pairs * voxels * LATENT_BYTES / 1e6)
        elif hasattr(settings, "learning_rate"):
            yield StepCost(step.name, steps=settings.steps, batch=settings.batch_size)
        else:
            yield StepCost(step.name)
