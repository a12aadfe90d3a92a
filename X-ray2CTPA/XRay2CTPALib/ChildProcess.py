"""A child process whose output arrives line by line, and that can be killed with all its own children."""

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

#: Seconds that readers of a dead process get to empty its pipes.
READ_OUT_SECONDS = 2.0
#: Seconds in which a killed process has to be gone.
KILL_SECONDS = 10.0


class ChildProcess:
    """One process. ``poll`` hands its output over, in the thread that calls it.

    Args:
        arguments: program and arguments.
        environment: all of the process's environment.
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
            # A group of its own, so that PythonSlicer, which is a launcher, dies with what it launched.
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
        """None while it runs; negative where a signal ended it."""
        return self._process.returncode

    def poll(self) -> bool:
        """Hands over what has arrived; True while more may come."""
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
            self._killGroup()  # the launcher is gone, what it launched still holds the pipes
        for reader in self._readers:
            reader.join(READ_OUT_SECONDS)

    def _killGroup(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # nothing is left of the group

    def _read(self, name: str) -> None:
        with getattr(self._process, name) as stream:
            for line in stream:
                self._lines.put((name, line.rstrip("\r\n")))
