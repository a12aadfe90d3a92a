"""The resident worker: a queue of jobs, a pipeline that stays loaded, the same results as `generate`.

It ends with its owner, a process, and when nothing comes for a while: what torch and a GPU's driver hold
beside the pipeline only the end of the process frees. A job ends when the process that asked for it does. The
queue lives in those who wait: a worker that dies takes the job under way with it, and whoever waited starts
another (resident_client.py).
"""

import contextlib
import os
import queue
import shutil
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from xray2ctpa_core.constants import EXIT_CANCELLED
from xray2ctpa_core.errors import Cancelled, DeviceError, InputError, XRay2CTPAError
from xray2ctpa_core.generation import channel
from xray2ctpa_core.generation.batch import generate_batch
from xray2ctpa_core.generation.held_pipeline import HeldPipeline
from xray2ctpa_core.generation.job import Generator
from xray2ctpa_core.generation.request import Request
from xray2ctpa_core.io.result_folder import is_alive
from xray2ctpa_core.pipelines.bundle import verify_bundle

#: Seconds for a cancelled job to end by itself, before the worker ends with it.
GRACE_SECONDS = 3.0
#: Seconds between two checks of owner and clock, and of the process that has requested the present job.
_TICK, _LOOK = 0.5, 0.1
#: Seconds for a new connection to send its request.
_REQUEST_SECONDS = 10.0


@dataclass
class _Job:
    """A waiting or running job."""

    connection: Connection
    request: Request
    cancelled: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Processes jobs one after another, in the thread that calls `serve`.

    Args:
        owner: process with which the worker ends.
        idle_s: seconds without a job after which the worker ends.

    Raises:
        InputError: that owner already has a worker, or the folder of the socket is not private.
    """

    def __init__(self, owner: int, idle_s: float) -> None:
        self._owner, self._idle_s = owner, idle_s
        self._held = HeldPipeline()
        self._ended = False
        self._waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._folder = channel.place_of(owner)
        channel.make_private(self._folder)
        if (other := channel.connect(self._folder)) is not None:
            other.close()
            raise InputError(f"Expected no worker of process {owner} yet, got one that serves.")
        self._remove_remains()
        self._listener, self._address = channel.listen(self._folder)

    def serve(self) -> None:
        """Serves until the owner has ended or there was no job for a while; then removes the folder."""
        start = Path.cwd()
        channel.announce(self._folder, self._address)
        for task in (self._accept, self._watch_owner):
            threading.Thread(target=task, daemon=True).start()
        try:
            last = time.monotonic()
            while time.monotonic() - last < self._idle_s:
                try:
                    job = self._waiting.get(timeout=_TICK)
                except queue.Empty:
                    continue
                with contextlib.closing(job.connection):
                    self._work(job)
                os.chdir(start)
                last = time.monotonic()
            # clients that were about to connect have done so, and will try again
            with channel.locked(self._folder):
                self._close()
        except KeyboardInterrupt:
            self._close()
            raise

    def _close(self) -> None:
        self._ended = True
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self, job: _Job) -> None:
        """Runs one job and reports how it ended; its errors end only the job."""
        watch = threading.Thread(target=self._watch, args=(job,), daemon=True)
        watch.start()
        reporter = _Remote(job)
        try:
            reporter.begin()
            code = _generate(job.request, reporter, self._held)
        except (Exception, KeyboardInterrupt) as error:
            answer: dict[str, Any] = channel.raised(error)
            if isinstance(error, KeyboardInterrupt):
                raise  # this process was told to end
        else:
            answer = {"end": code}
        finally:
            job.over.set()
        if reporter.had_device_error or answer.get("raised") == DeviceError.__name__:
            self._held.drop()  # the rest of a pipeline that ran out of memory
        with contextlib.suppress(*channel.GONE):
            channel.send(job.connection, **answer)
        watch.join()  # before the connection is closed, because its number may be reused

    def _watch(self, job: _Job) -> None:
        """Cancels the job if its client asks for it or has ended; in both cases the connection becomes
        readable."""
        while not job.over.is_set():
            if job.connection.poll(_LOOK):
                job.cancelled.set()
                if not job.over.wait(GRACE_SECONDS):
                    self._end_now()

    def _accept(self) -> None:
        """Accepts jobs."""
        while not self._ended:
            try:
                connection = self._listener.accept()
            except channel.GONE:
                continue  # a client without the key, or one that has disconnected
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: Connection) -> None:
        try:
            if not connection.poll(_REQUEST_SECONDS):
                raise EOFError
            self._waiting.put(_Job(connection, Request.from_json(connection.recv_bytes())))
        except (*channel.GONE, ValueError, KeyError, TypeError):
            connection.close()  # a client that only checked whether a worker listens

    def _watch_owner(self) -> None:
        while is_alive(self._owner):
            time.sleep(_TICK)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._end_now()

    def _end_now(self) -> None:
        """Ends this process during a job; the guard of its result folder removes unfinished files."""
        os._exit(EXIT_CANCELLED)

    def _remove_remains(self) -> None:
        """Removes sockets of killed workers."""
        for path in self._folder.glob("*.socket"):
            path.unlink(missing_ok=True)


def _generate(request: Request, reporter: "_Remote", held: HeldPipeline) -> int:
    """Runs the job like `generate`, in the working folder and with the umask of the client."""
    os.chdir(request.folder)
    os.umask(request.umask)
    info = verify_bundle(request.bundle)
    generator = Generator(request.bundle, info, request.wishes.settings(info), reporter, held)
    return generate_batch(generator, request.cases, reporter)


class _Remote:
    """The reporter of the client process; raises Cancelled if that has ended."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self.wants_previews = job.request.previews
        self.had_device_error = False

    def begin(self) -> None:
        """The job starts."""
        self._send(begun=True)

    def stage(self, name: str, message: str) -> None:
        self._call("stage", name, message)

    def progress(self, stage: str, step: int, of: int, after_s: float = 0.0) -> None:
        self._call("progress", stage, step, of, after_s)

    def preview(self, path: Path) -> None:
        self._call("preview", path)

    def warning(self, message: str) -> None:
        self._call("warning", message)

    def result(self, folder: Path, content: dict[str, Any], skipped: bool) -> None:
        self._call("result", folder, content, skipped)

    def error(self, error: XRay2CTPAError, source: str = "") -> None:
        self.had_device_error = self.had_device_error or isinstance(error, DeviceError)
        self._call("error", channel.raised(error), source)

    def _call(self, name: str, *arguments: Any) -> None:
        self._send(call=name, args=arguments)

    def _send(self, **message: Any) -> None:
        if not self._job.cancelled.is_set():
            with contextlib.suppress(*channel.GONE):
                channel.send(self._job.connection, **message)
                return
        raise Cancelled("Cancelled; nothing unfinished was left behind.")
