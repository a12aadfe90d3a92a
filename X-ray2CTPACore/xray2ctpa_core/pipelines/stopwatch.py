"""Seconds by stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by stage, in the order of the stages.

    Args:
        wait: called at the end of each stage, so that what a GPU was asked for counts where it was asked.
    """

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._wait = wait

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Within, time counts for ``stage``."""
        began = time.monotonic()
        yield
        if self._wait is not None:
            self._wait()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began
