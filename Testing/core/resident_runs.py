"""Runs `generate --resident` for an owner of its own, and finds its worker."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from cli_runs import COMMAND, ENVIRONMENT


@dataclass(frozen=True)
class Owner:
    """A process that resident workers are started for.

    Attributes:
        process: sleeps until it is killed.
        runtime: folder for the worker's folder.
        radiograph: a radiograph.
        bundle: folder.
    """

    process: subprocess.Popen[bytes]
    runtime: Path
    radiograph: Path
    bundle: Path

    def command(self, *more: object) -> list[str]:
        arguments = ("generate", self.radiograph, "--bundle", self.bundle, "--seed", 3, "--force", *more)
        return [*COMMAND, *map(str, arguments), "--resident", str(self.process.pid)]

    @property
    def environment(self) -> dict[str, str]:
        return ENVIRONMENT | {"XRAY2CTPA_RUNTIME": str(self.runtime)}

    def run(self, *more: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*more), cwd=cwd, env=self.environment, capture_output=True, text=True, check=False
        )

    def begin(self, *more: object, cwd: Path) -> subprocess.Popen[str]:
        """The same with --events, under way."""
        return subprocess.Popen(
            self.command(*more, "--events"),
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def serve(self, *flags: object) -> subprocess.Popen[str]:
        """A worker started by hand, ready."""
        command = [*COMMAND, "serve", "--owner", str(self.process.pid), *map(str, flags)]
        worker = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline().startswith(f"Serves process {self.process.pid}")
        return worker

    @property
    def folder(self) -> Path:
        """The worker's private folder."""
        (folder,) = self.runtime.iterdir()
        return folder

    def worker(self) -> psutil.Process:
        return psutil.Process(json.loads((self.folder / "worker.json").read_text())["pid"])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def owner_of(runtime: Path, radiograph: Path, bundle: Path) -> Iterator[Owner]:
    """A new owner; in the end it is killed, and its worker with it."""
    runtime.mkdir()
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(3600)"])
    owner = Owner(process, runtime, radiograph, bundle)
    try:
        yield owner
    finally:
        owner.end()
        assert within(30, lambda: not list(runtime.iterdir()))


def reads_until(stage: str, run: subprocess.Popen[str]) -> None:
    """Returns when the run says that ``stage`` begins."""
    assert run.stdout is not None
    for line in run.stdout:
        if json.loads(line).get("stage") == stage:
            return
    raise AssertionError(run.communicate()[1])


def within(seconds: float, is_so: object) -> bool:
    """Whether ``is_so()`` becomes true in that time."""
    assert callable(is_so)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(0.05)
    return bool(is_so())
