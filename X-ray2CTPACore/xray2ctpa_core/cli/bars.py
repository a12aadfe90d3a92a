"""Progress bars of commands that work in several phases."""

import sys


class Bars:
    """One progress bar at a time on stderr, with the name of its phase; none where stderr is no terminal."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._make = tqdm
        self._name = ""
        self._bar = tqdm(total=0, disable=True)

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_raised: object) -> None:
        self._bar.close()

    def show(self, name: str, done: int, of: int) -> None:
        """Moves the bar of ``name`` to ``done`` of ``of``."""
        if name != self._name:
            self._bar.close()
            self._name, self._bar = name, self._make(total=of, desc=name, disable=None, file=sys.stderr)
        self._bar.update(done - self._bar.n)
