"""Progress of a command: text on stderr for users, or JSON lines on stdout for programs."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from xray2ctpa_core.errors import XRay2CTPAError
from xray2ctpa_core.wording import one_line, scored


class Reporter(Protocol):
    """Receives a command's progress; ``wants_previews``: whether previews are used."""

    wants_previews: bool

    def stage(self, name: str, message: str) -> None:
        """A stage starts."""

    def progress(self, stage: str, step: int, of: int, after_s: float = 0.0) -> None:
        """``step`` steps of ``of`` are done; after the last one, the run takes about ``after_s`` seconds
        more."""

    def preview(self, path: Path) -> None:
        """A preview of the volume is at ``path`` for a while."""

    def warning(self, message: str) -> None:
        """A warning for the user."""

    def result(self, folder: Path, content: dict[str, Any], skipped: bool) -> None:
        """A result is complete in ``folder``, or (``skipped``) was complete before."""

    def error(self, error: XRay2CTPAError, source: str = "") -> None:
        """The command, or its input ``source``, failed."""


class HumanReporter:
    """A progress bar, warnings and errors on stderr; the result's folder on stdout."""

    wants_previews = False

    def __init__(self) -> None:
        self._bar: Any = None

    def stage(self, name: str, message: str) -> None:  # noqa: ARG002 - programs read the name, people the message
        self._close_bar()
        if sys.stderr.isatty():
            sys.stderr.write(one_line(message) + "\n")

    def progress(self, stage: str, step: int, of: int, after_s: float = 0.0) -> None:  # noqa: ARG002
        if self._bar is None:
            from tqdm import tqdm

            # disable=None: no bar if stderr is not a terminal, so that logs hold lines only.
            self._bar = tqdm(total=of, desc=stage, unit="step", leave=False, disable=None, file=sys.stderr)
        self._bar.update(step - self._bar.n)

    def preview(self, path: Path) -> None:
        """Ignored: users get preview.png at the end."""

    def warning(self, message: str) -> None:
        self._close_bar()
        sys.stderr.write(f"Warning: {one_line(message)}\n")

    def result(self, folder: Path, content: dict[str, Any], skipped: bool) -> None:
        self._close_bar()
        done = "Already complete" if skipped else "Done"
        sys.stdout.write(f"{done}: {one_line(folder)}\n{scored(content['pe'])} {content['notice']}\n")
        sys.stdout.flush()

    def error(self, error: XRay2CTPAError, source: str = "") -> None:
        self._close_bar()
        where = f"{source}: " if source else ""
        lines = [f"Error: {where}{error.message}", error.hint]
        sys.stderr.write("\n".join(" ".join(line.split()) for line in lines if line) + "\n")
        sys.stderr.flush()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class EventReporter(HumanReporter):
    """The same as JSON objects, one in each line, on ``stream``; errors also on stderr."""

    wants_previews = True

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._stage_began = time.monotonic()

    def stage(self, name: str, message: str) -> None:
        self._stage_began = time.monotonic()
        self._emit(event="stage", stage=name, message=message)

    def progress(self, stage: str, step: int, of: int, after_s: float = 0.0) -> None:
        elapsed = time.monotonic() - self._stage_began
        eta = elapsed / step * (of - step) + after_s if step else None
        self._emit(
            event="progress", stage=stage, step=step, of=of, eta_s=None if eta is None else round(eta, 2)
        )

    def preview(self, path: Path) -> None:
        self._emit(event="preview", path=str(path))

    def warning(self, message: str) -> None:
        self._emit(event="warning", message=message)

    def result(self, folder: Path, content: dict[str, Any], skipped: bool) -> None:
        self._emit(event="result", path=str(folder), skipped=skipped, result=content)

    def error(self, error: XRay2CTPAError, source: str = "") -> None:
        super().error(error, source)
        self._emit(event="error", code=error.exit_code, message=error.message, hint=error.hint, input=source)

    def _emit(self, **event: Any) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()


def reporter_for(args: argparse.Namespace) -> Reporter:
    """The reporter for the flag --events."""
    return EventReporter(sys.stdout) if args.events else HumanReporter()


@contextmanager
def only_events_on_stdout(args: argparse.Namespace) -> Iterator[Reporter]:
    """A reporter; with --events, output of libraries to stdout is redirected to stderr within the context."""
    if not args.events:
        yield HumanReporter()
        return
    sys.stdout.flush()
    events = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        with open(events, "w", encoding="utf-8", closefd=False) as stream:
            yield EventReporter(stream)
    finally:
        sys.stdout.flush()
        os.dup2(events, sys.stdout.fileno())
        os.close(events)
