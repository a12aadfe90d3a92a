"""What workers of a cluster make in tests; in a file of its own, for they import it by name."""

import os
import signal
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


def given_up(number: int) -> str:
    return f"given up {number}"


def refuses(number: int) -> int:
    if number == 2:
        raise FileNotFoundError("no such radiograph")
    return number
