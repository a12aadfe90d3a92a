"""Times of actions that are done in turns, so that the machine's other load affects all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of ``n`` repeated measurements."""

    median: float
    least: float
    greatest: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Spread of at least one measurement."""
    return Spread(float(np.median(values)), float(min(values)), float(max(values)), len(values))


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    on_round: Callable[[int, int], None] | None = None,
    processor: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every action in each of ``repeats`` rounds; a round does all of them in turn.

    Args:
        actions: by name; each is done once before, to warm up caches and kernels.
        repeats: rounds, at least 1.
        device: waited for before and after each action.
        on_round: called with (rounds done, of), the warm-up counting as one.
        processor: receives the seconds of this process's processor time alike, which other programs affect
            less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(repeats + 1):
        for name, action in actions.items():
            synchronise(device)
            began, computed = time.perf_counter(), time.process_time()
            action()
            synchronise(device)
            if number:
                seconds[name].append(time.perf_counter() - began)
                if processor is not None:
                    processor.setdefault(name, []).append(time.process_time() - computed)
        if on_round is not None:
            on_round(number + 1, repeats + 1)
    return seconds


def ratios(seconds: Sequence[float], reference: Sequence[float]) -> Spread:
    """Ratios of one action to another, round by round."""
    return spread([a / b for a, b in zip(seconds, reference, strict=True)])


def synchronise(device: torch.device) -> None:
    """Waits until the device has finished its work; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
