"""Work in batches that halve where memory is short."""

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

    Where memory is short the batch halves and stays so for the rest of the call; what is already computed is
    kept. A single item that does not fit is an error.

    Args:
        function: (n, ...) -> (n, ...), each item for itself.
        items: N of them, at least 1.
        at_once: batch to begin with.
        on_step_down: called with the new batch each time it halves.
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
        if short:  # outside the handler, whose traceback holds what was allocated
            at_once = max(1, min(at_once, len(items) - place) // 2)
            gc.collect()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            if on_step_down is not None:
                on_step_down(at_once)
    return torch.cat(done)
