"""Sends a job to the resident worker, which is started if there is none; for the user it is like
`generate`."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from xray2ctpa_core.errors import DeviceError, InputError, XRay2CTPAError
from xray2ctpa_core.generation import channel
from xray2ctpa_core.generation.events import Reporter
from xray2ctpa_core.generation.request import Request
from xray2ctpa_core.generation.resident import GRACE_SECONDS
from xray2ctpa_core.io.result_folder import ResultFolder, remove_leftovers

#: Seconds until a new worker must listen; on a slow disk the start of Python alone takes a few.
_START_SECONDS = 60.0
#: Seconds between two checks of the worker.
_TICK = 0.05
#: Number of workers that may die before a job starts.
_TRIES = 5
#: Seconds after which a waiting job is reported.
_QUIET_SECONDS = 0.5
_LOG_FILE = "worker.log"


class NoWorkerError(Exception):
    """There is no resident worker, and none can be started; the text is the reason."""


def generate_resident(request: Request, owner: int, reporter: Reporter) -> int:
    """Has the job done by the resident worker of ``owner``; returns its exit code.

    Args:
        request: the job.
        owner: process with which the worker ends.
        reporter: receives the worker's reports.

    Raises:
        NoWorkerError: the job was not started.
        DeviceError: the worker ended during the job.
        XRay2CTPAError: the error that ended the job.
    """
    for _ in range(_TRIES):
        connection = _connected(owner)
        try:
            return _Waiting(connection, reporter).until_done(request)
        except _LostError as lost:
            if lost.begun:
                raise DeviceError(
                    "The resident worker ended amid this job; nothing unfinished was left behind.",
                    "Most likely memory ran out: close other programs, or take fewer samples. "
                    "The next job starts a new worker.",
                ) from lost
        except XRay2CTPAError:
            raise  # the job's own error
        except BaseException:  # this process is to end, or its reader has ended
            _cancel(connection, request)
            raise
        finally:
            connection.close()
    raise NoWorkerError(f"{_TRIES} workers ended before this job's turn came")


class _LostError(Exception):
    """The worker has ended; ``begun``: during this job."""

    def __init__(self, begun: bool) -> None:
        super().__init__()
        self.begun = begun


class _Waiting:
    """Follows one job at the worker."""

    def __init__(self, connection: Connection, reporter: Reporter) -> None:
        self._connection, self._reporter = connection, reporter
        self._begun = False

    def until_done(self, request: Request) -> int:
        with self._noticing_loss():
            self._connection.send_bytes(request.to_json())
        sent, said = time.monotonic(), False
        while True:
            with self._noticing_loss():
                arrived = self._connection.poll(_QUIET_SECONDS)  # with a time limit, for Ctrl-C on Windows
                message = channel.receive(self._connection) if arrived else {}
            if not (self._begun or said or message) and time.monotonic() - sent > _QUIET_SECONDS:
                self._reporter.stage("wait", "Waiting for another job to end")
                said = True
            if "begun" in message:
                self._begun = True
            elif "call" in message:
                self._call(message["call"], message["args"])
            elif "end" in message:
                return int(message["end"])
            elif "raised" in message:
                raise channel.error_of(message)

    def _call(self, name: str, arguments: list[Any]) -> None:
        """Passes the worker's reports to this process's reporter."""
        tell: dict[str, Callable[..., None]] = {
            "stage": self._reporter.stage,
            "progress": self._reporter.progress,
            "preview": lambda path: self._reporter.preview(Path(path)),
            "warning": self._reporter.warning,
            "result": lambda path, content, skipped: self._reporter.result(Path(path), content, skipped),
            "error": lambda error, source: self._reporter.error(channel.error_of(error), source),
        }
        tell[name](*arguments)

    @contextlib.contextmanager
    def _noticing_loss(self) -> Any:
        try:
            yield
        except channel.GONE as error:
            raise _LostError(self._begun) from error


def _cancel(connection: Connection, request: Request) -> None:
    """Returns when the worker has ended the job, or itself, and unfinished files are removed."""
    with contextlib.suppress(*channel.GONE):
        connection.send_bytes(channel.CANCEL)
        end = time.monotonic() + GRACE_SECONDS + 2.0
        while connection.poll(max(end - time.monotonic(), 0.0)):
            if {"end", "raised"} & channel.receive(connection).keys():
                return
    for case in request.cases:  # by the guard of the worker that has ended
        target = ResultFolder(case.target).target
        if target.parent.is_dir():
            remove_leftovers(target)


def _connected(owner: int) -> Connection:
    """A connection to the owner's worker; starts one if there is none."""
    folder = channel.place_of(owner)
    try:
        channel.make_private(folder)
        with channel.locked(folder):
            return channel.connect(folder) or _started(folder, owner)
    except (OSError, InputError) as error:
        raise NoWorkerError(str(error)) from error


def _started(folder: Path, owner: int) -> Connection:
    """Starts a worker in a session of its own, because it outlives the job, and connects to it."""
    command = [sys.executable, "-P", "-m", "xray2ctpa_core", "serve", "--owner", str(owner)]
    # A private folder for temporary files, which exists as long as the worker; a job's own may not.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    environment[channel.PLACE_VARIABLE] = str(folder.parent)
    with (folder / _LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=os.name != "nt",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            env=environment,
        )
    end = time.monotonic() + _START_SECONDS
    ended = False
    while not ended and time.monotonic() < end:
        ended = process.poll() is not None  # perhaps because another process was faster
        if (connection := channel.connect(folder)) is not None:
            return connection
        time.sleep(_TICK)
    raise NoWorkerError(f"a new one did not start (exit code {process.poll()})")
