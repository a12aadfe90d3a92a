"""Computation in batches, whose size is halved when memory is short."""

import gc
from collections.abc import Callable

import torch

from xray2ctpa_core.errors import is_out_of_memory


def in_batches(
    function: Callable[[torch.Tensor], torch.Tensor],
    items: torch.Tensor,
    at_once: int,
    on_step_down: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """``function`` of ``items`` (N, ...), at most ``at_once`` of them at a time.

    When memory is short, the size of the batch is halved for the rest of the call; computed results are
    kept. If a single item does not fit, an error is raised.

    Args:
        function: (n, ...) -> (n, ...), independently for each item.
        items: N of them, at least 1.
        at_once: initial size of a batch.
        on_step_down: called with the new size each time it is halved.
    """
    done: list[torch.Tensor] = []
    place = 0
    while place < len(items):
        try:
            done.append(function(items[place : place + at_once]))
        except (RuntimeError, MemoryError) as error:
            if at_once == 1 or not is_out_of_memory(error):
                raise
            short = True
        else:
            place, short = place + at_once, False
        if short:  # outside the handler, whose traceback keeps the allocated tensors alive
            at_once = max(1, min(at_once, len(items) - place) // 2)
            gc.collect()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            if on_step_down is not None:
                on_step_down(at_once)
    return torch.cat(done)
