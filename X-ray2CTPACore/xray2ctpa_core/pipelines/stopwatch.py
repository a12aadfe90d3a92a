"""Seconds by stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by stage, in the order of the stages.

    Args:
        wait: called at the end of each stage, so that the work of a GPU counts for the stage that launched
            it.
    """

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._wait = wait

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Within it, time counts for ``stage``."""
        began = time.monotonic()
        yield
        if self._wait is not None:
            self._wait()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began
