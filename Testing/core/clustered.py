"""What workers of a cluster make in tests; in a file of its own, for they import it by name."""

import contextlib
import os
import signal
import time
from pathlib import Path

from xray2ctpa_core.cluster import here


def squared(number: int) -> tuple[int, int]:
    """The square, and the worker's process."""
    return number * number, os.getpid()


def place(_number: int) -> dict[str, str] | None:
    return here()


def dies(folder: Path, number: int) -> str:
    """Kills its worker for 3 each time, for 5 the first time; notes each try."""
    with (folder / f"{number}.tries").open("a") as file:
        file.write("x")
    if number == 3 or (number == 5 and (folder / "5.tries").stat().st_size == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return "made"


def dies_once(folder: Path, workers: int, number: int) -> int:
    """Kills each of so many workers at its first item; the worker's process later."""
    place = here()
    assert place is not None
    with contextlib.suppress(FileExistsError):
        (folder / f"{place['worker']}.died").touch(exist_ok=False)
        if len(list(folder.glob("*.died"))) <= workers:
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1.0)  # so that no worker does all of them
    return os.getpid()


def given_up(number: int) -> str:
    return f"given up {number}"


def refuses(number: int) -> int:
    if number == 2:
        raise FileNotFoundError("no such radiograph")
    return number
