"""Converts exceptions that end a command to the errors of the command line's contract."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from xray2ctpa_core.errors import (
    Cancelled,
    DeviceError,
    InputError,
    XRay2CTPAError,
    is_out_of_memory,
)

#: Set in the environment, it lets unforeseen errors through with their traceback.
DEBUG_VARIABLE = "XRAY2CTPA_DEBUG"


def user_error(error: BaseException) -> XRay2CTPAError:
    """The error of the contract for ``error``; for an unforeseen one, its hint asks for a report."""
    if isinstance(error, XRay2CTPAError):
        return error
    if isinstance(error, KeyboardInterrupt | BrokenPipeError):
        return Cancelled("Cancelled; nothing unfinished was left behind.")
    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        return DeviceError(
            "The device ran out of memory.",
            "Close other programs, or choose another --device or --precision.",
        )
    if isinstance(error, ModuleNotFoundError):
        return InputError(
            f"This command needs the package {error.name}, which is not installed.",
            "Install the core with the extra that brings it, for example [training]: see its pyproject.toml.",
        )
    if isinstance(error, OSError):
        return InputError(f"Cannot go on: {text}.", "Check the files and folders named in the command.")
    return InputError(
        f"Unexpected {type(error).__name__}: {text[:300]}",
        f"This is a defect: please report it with what {DEBUG_VARIABLE}=1 shows.",
    )


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP end the command in the same orderly way as Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    try:
        former = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    except ValueError:  # not in the main thread: only that can set handlers
        former = {}
    try:
        yield
    finally:
        for name, handler in former.items():
            signal.signal(getattr(signal, name), handler)


@contextmanager
def quiet_libraries(enabled: bool = True) -> Iterator[None]:
    """Within it, warnings and log messages of libraries are suppressed."""
    if not enabled:
        yield
        return
    former = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)
