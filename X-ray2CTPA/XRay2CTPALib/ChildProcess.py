"""A child process with output line by line, which can be killed together with its own children."""

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

#: Seconds for readers of a dead process to empty its pipes.
READ_OUT_SECONDS = 2.0
#: Seconds within which a killed process must have ended.
KILL_SECONDS = 10.0


class ChildProcess:
    """One process. ``poll`` passes its output on, in the calling thread.

    Args:
        arguments: program and arguments.
        environment: the complete environment of the process.
        onOutput: called with every line of standard output, without its end.
        onErrorOutput: called with every line of standard error.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        onOutput: Callable[[str], None],
        onErrorOutput: Callable[[str], None],
    ) -> None:
        self._receivers = {"stdout": onOutput, "stderr": onErrorOutput}
        self._lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            list(arguments),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            # A process group of its own, so that PythonSlicer, which is a launcher, is killed with the
            # launched process.
            start_new_session=os.name != "nt",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._receivers
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Process id, which is also that of its group on Linux and macOS."""
        return self._process.pid

    @property
    def exitCode(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._process.returncode

    def poll(self) -> bool:
        """Passes the output so far on; True while more may come."""
        running = self._process.poll() is None
        if not running:
            for reader in self._readers:
                reader.join(READ_OUT_SECONDS)
        while not self._lines.empty():
            name, line = self._lines.get()
            self._receivers[name](line)
        return running

    def kill(self) -> None:
        """Ends the process and its children at once and waits until they are gone."""
        if self._process.poll() is None:
            if os.name == "nt":
                subprocess.run(
                    ["taskkill", "/F", "/T", "/PID", str(self.pid)],
                    capture_output=True,
                    check=False,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            else:
                self._killGroup()
            self._process.wait(KILL_SECONDS)
        elif os.name != "nt" and any(reader.is_alive() for reader in self._readers):
            self._killGroup()  # the launcher has ended, the launched process still holds the pipes
        for reader in self._readers:
            reader.join(READ_OUT_SECONDS)

    def _killGroup(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # the group has no process any more

    def _read(self, name: str) -> None:
        with getattr(self._process, name) as stream:
            for line in stream:
                self._lines.put((name, line.rstrip("\r\n")))
