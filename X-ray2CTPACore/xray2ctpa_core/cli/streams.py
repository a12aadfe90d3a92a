"""A command's environment: standard streams, absent under services, cron and pythonw; working folder."""

import contextlib
import os
import sys
from collections.abc import Iterator

from xray2ctpa_core.errors import InputError

_SAFE_PATH = "PYTHONSAFEPATH"


def open_missing_streams() -> None:
    """Connects closed standard streams (input, output, error) to the null device.

    Otherwise ``sys.stdout`` is None, and the next opened file would get the stream's number, to which
    libraries write. Characters that the terminal cannot show are written with backslashes.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the process's life
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def check_working_folder() -> None:
    """Raises InputError where the working folder has been deleted; libraries would end without a message."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            "Expected a working folder, got one that was deleted or cannot be read.",
            "Change to a folder that exists.",
        ) from error


@contextlib.contextmanager
def working_folder_left_out() -> Iterator[None]:
    """Lets Python processes started within it (workers) not import a user's random.py from the working
    folder, which the search path of ``python -c`` and ``-m`` begins with.

    It ends with the command: a script started later by the same process must find the modules beside it.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SAFE_PATH, None)
        else:
            os.environ[_SAFE_PATH] = before
