"""Removes an unfinished result once the process that was writing it has died, however it died.

Run as a script, ``result_guard.py PARTIAL [PARENT ...]``: standard input is a pipe whose other end only that
process holds, so reading it ends when the process does. Standard library only; starts in milliseconds.
"""

import contextlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


def remove(paths: Sequence[Path]) -> None:
    """Removes the partial folder ``paths[0]`` and those of the other folders, parents, that are empty."""
    if not paths:
        return
    partial, *parents = paths
    shutil.rmtree(partial, ignore_errors=True)
    for parent in parents:
        with contextlib.suppress(OSError):  # absent, or it holds something of someone else's
            parent.rmdir()


if __name__ == "__main__":
    sys.stdin.buffer.read()
    remove([Path(argument) for argument in sys.argv[1:]])
