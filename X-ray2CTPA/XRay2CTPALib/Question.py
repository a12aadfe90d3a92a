"""A short question to the core (check, verify, info, system, dicom): one child process, one answer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xray2ctpa_core.constants import EXIT_DONE

from .ChildProcess import ChildProcess
from .CoreCommand import coreArguments, coreEnvironment
from .Job import Failure, hintFor, removeFolder


class Question:
    """Runs ``xray2ctpa ARGUMENTS``; calls ``onAnswer`` at the end, unless it was cancelled.

    Args:
        arguments: of the command.
        onAnswer: called with this object.
        folder: removed at the end, after ``onAnswer``.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        onAnswer: Callable[["Question"], None] | None = None,
        mayFetch: bool = False,
        bundleFolders: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        self._output: list[str] = []
        self._errors: list[str] = []
        self._onAnswer = onAnswer or (lambda _question: None)
        self._folder = folder
        self.ended = False
        environment = coreEnvironment(mayFetch, bundleFolders)
        self._process = ChildProcess(
            coreArguments(arguments), environment, self._output.append, self._errors.append
        )

    @property
    def succeeded(self) -> bool:
        """Whether the command ended with exit code 0."""
        return self._process.exitCode == EXIT_DONE

    @property
    def text(self) -> str:
        """The command's output, or its error message with a hint for a user of the panel."""
        return "\n".join(self._output) if self.succeeded else errorText(self._process.exitCode, self._errors)

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object in the command's output; raises ValueError if there is none."""
        return json.loads(self._output[-1] if self._output else "")

    def poll(self) -> bool:
        """True until the command has ended."""
        if not self.ended and not self._process.poll():
            self.ended = True
            try:
                self._onAnswer(self)
            finally:
                self._close()
        return not self.ended

    def cancel(self) -> None:
        """Ends the command; its answer is not needed any more."""
        if not self.ended:
            self._process.kill()
            self._close()

    def _close(self) -> None:
        self.ended = True
        if self._folder is not None:
            removeFolder(self._folder)


def errorText(code: int, lines: Sequence[str]) -> str:
    """The message and the hint of a failed command, in the form of the panel's other failures.

    Args:
        code: exit code.
        lines: of its stderr: "Error: message", then a hint; warnings may come before.
    """
    start = next((number for number, line in enumerate(lines) if line.startswith("Error: ")), None)
    if start is None:
        return "\n".join([*lines, hintFor(code, "")])
    message, hint = lines[start].removeprefix("Error: "), " ".join(lines[start + 1 :])
    return Failure(message, hintFor(code, hint)).text()
