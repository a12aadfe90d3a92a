"""One run of the core: its folder, its child process, its events, and the nodes of its results."""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from xray2ctpa_core.constants import (
    EXIT_BUNDLE,
    EXIT_CANCELLED,
    EXIT_DEVICE_OR_MEMORY,
    EXIT_DONE,
    EXIT_NOT_FRONTAL_CXR,
    EXIT_UNUSABLE_INPUT,
)
from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io.result_folder import is_alive
from xray2ctpa_core.mrml import ResultNodes, load_result, remove_result

from . import Estimates
from .ChildProcess import ChildProcess
from .CoreCommand import coreArguments, coreEnvironment
from .InputNode import writeInput
from .Settings import RunSettings
from .Views import renderingClass

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
#: Largest value of the progress bar before the end of the run; seconds between two updates of it.
ALMOST, TICK = 0.99, 0.5
#: Pattern of hints that are for users of the command line: flags, commands, settings of the core.
COMMAND_LINE = ("--", "`", ".toml", "XRAY2CTPA_", "command")
#: Number of lines of the log that are kept.
LOG_LINES = 500
FOLDER_PREFIX = "XRay2CTPA-"
#: Attempts to remove a folder that another program still uses, and seconds between them.
REMOVE_ATTEMPTS, REMOVE_PAUSE = 20, 0.1


@dataclass
class Failure:
    """Failure of a run, or of one input of a batch: what happened, and what to do."""

    message: str
    hint: str = ""
    input: str = ""

    def text(self) -> str:
        """Message and hint, on two lines."""
        return "\n".join(filter(None, (self.message, self.hint)))


@dataclass
class Progress:
    """Progress according to the core's events so far.

    Attributes:
        stage: description of the present stage.
        fraction: 0..1 of the whole run, by time; None before sampling has begun.
        secondsLeft: of the whole run; None if unknown.
        preview: a PNG file, which may be removed at any time, or None.
        warnings: sentences.
    """

    stage: str = ""
    fraction: float | None = None
    secondsLeft: float | None = None
    preview: Path | None = None
    warnings: list[str] = field(default_factory=list)
    _end: float | None = None

    def expect(self, seconds: float | None) -> None:
        """Sets the expected time until the end; None if unknown."""
        self._end = None if seconds is None else time.monotonic() + seconds

    def tick(self, began: float) -> None:
        """Advances with the time, because decoding and scoring send no events; never decreases and never
        reaches the end."""
        if self._end is None:
            return
        now = time.monotonic()
        left = self._end - now
        self.secondsLeft = left if left > 0 else None
        fraction = (now - began) / (now - began + max(left, 0.0)) if now > began else 0.0
        self.fraction = min(max(self.fraction or 0.0, fraction), ALMOST)


class Job:
    """A run for the nodes of one or several radiographs.

    ``poll`` processes its events; ``onChanged`` is called after each change. At its end, however it ends,
    its folder and processes are removed; nodes are added for complete results only.

    Raises:
        InputError, OutputError: from the constructor, if a node cannot be used or written.
    """

    def __init__(
        self,
        nodes: Sequence[Any],
        settings: RunSettings,
        scene: Any,
        mayFetch: bool = False,
        bundleFolders: Sequence[str] = (),
        onChanged: Callable[["Job"], None] | None = None,
        outputFolder: str = "",
    ) -> None:
        self.settings = settings
        self.state = RUNNING
        self.progress = Progress()
        self.results: list[ResultNodes] = []
        self.failures: list[Failure] = []
        self.log: list[str] = []
        self.notes: list[str] = []
        self._scene = scene
        self._onChanged = onChanged or (lambda _job: None)
        self._began = time.monotonic()
        # Ids instead of nodes, because nodes may be removed while the job runs.
        self._nodeIds = [node.GetID() if node.GetScene() is scene else None for node in nodes]
        self._finished = 0
        self._ticked = 0.0
        self.outputFolder = outputFolder
        self.folder = makeFolder()
        try:
            files = [writeInput(node, self.folder / "input" / str(n)) for n, node in enumerate(nodes)]
            arguments = ["generate", *map(str, files), "--out", str(self.folder / "result"), "--events"]
            arguments += ["--resident", str(os.getpid())]
            self._process = ChildProcess(
                coreArguments([*arguments, *settings.arguments()]),
                coreEnvironment(mayFetch, bundleFolders),
                self._onLine,
                self.log.append,
            )
        except BaseException:
            removeFolder(self.folder)
            raise

    @property
    def pid(self) -> int:
        """Of the child process."""
        return self._process.pid

    def poll(self) -> bool:
        """Processes the core's events; True while it runs."""
        if self.state == RUNNING and not self._process.poll() and self.state == RUNNING:
            self._end(self._process.exitCode)
        if self.state == RUNNING and time.monotonic() - self._ticked > TICK:
            self._ticked = time.monotonic()
            self.progress.tick(self._began)
            self._onChanged(self)
        return self.state == RUNNING

    def cancel(self) -> None:
        """Ends the run at once; no process, file or node of it remains."""
        if self.state != RUNNING:
            return
        self.state = CANCELLED
        self._process.kill()
        removeFolder(self.folder)
        for nodes in self.results:  # of a batch
            remove_result(nodes)
        self.results = []
        self._onChanged(self)

    def wait(self, processEvents: Callable[[], None] = lambda: None, interval: float = 0.05) -> None:
        """Waits for the end of the job; ``processEvents`` is called about every ``interval`` seconds."""
        while self.poll():
            processEvents()
            time.sleep(interval)

    def logText(self) -> str:
        """The core's output and events, for finding the cause of a failure."""
        return "\n".join(self.log[-LOG_LINES:])

    def _onLine(self, line: str) -> None:
        self.log.append(line if len(line) < 2000 else line[:2000] + " ...")
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            return  # output of some library
        if kind == "stage":
            self.progress.stage = stageText(event["stage"], event["message"])
        elif kind == "progress":
            self.progress.expect(event["eta_s"])
            self.progress.tick(self._began)
        elif kind == "preview":
            self.progress.preview = Path(event["path"])
        elif kind == "warning":
            self.progress.warnings.append(event["message"])
        elif kind == "result":
            self._addResult(Path(event["path"]))
        elif kind == "error":
            hint = hintFor(event["code"], event["hint"])
            self.failures.append(Failure(event["message"], hint, Path(event["input"]).name))
            self._finished += bool(event["input"])
        self._onChanged(self)

    def _addResult(self, folder: Path) -> None:
        """Loads the result of the next input; results and errors arrive in the order of the inputs."""
        nodeId = self._nodeIds[self._finished]
        self._finished += 1
        radiograph = self._scene.GetNodeByID(nodeId) if nodeId else None
        try:
            nodes = load_result(folder, self._scene, radiograph, self.settings.attributes(), renderingClass())
        except InputError as error:
            self.failures.append(Failure(error.message, error.hint))
            return
        self.results.append(nodes)
        self._keep(folder, nodes.ctpa.GetName())
        if len(self._nodeIds) == 1:
            Estimates.remember(nodes.record, time.monotonic() - self._began, self.settings.device)

    def _keep(self, folder: Path, name: str) -> None:
        """Copies the result's files to the output folder, if one is chosen; adds a warning if that fails."""
        if not self.outputFolder:
            return
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._")
        target, number = Path(self.outputFolder) / stem, 1
        while target.exists():
            number += 1
            target = Path(self.outputFolder) / f"{stem}-{number}"
        try:
            shutil.copytree(folder, target)
            self.notes.append(_("Files: {folder}").format(folder=target))
        except OSError as error:  # shutil.Error is an OSError
            shutil.rmtree(target, ignore_errors=True)
            reason = error.strerror or error
            text = _("The result is in the scene, but could not be written to {folder}: {reason}.")
            self.notes.append(text.format(folder=target, reason=reason))

    def _end(self, code: int | None) -> None:
        """Called when the process has ended by itself, or was killed by another program."""
        if not self.failures and (code != EXIT_DONE or not self.results):
            self.failures.append(
                Failure(
                    _("The computation ended without a result (exit code {code}).").format(code=code),
                    _("Another program may have ended it, or memory ran out. See the log, then try again."),
                )
            )
        self.state = FAILED if self.failures else DONE
        self._process.kill()
        removeFolder(self.folder)
        self._onChanged(self)


def stageText(stage: str, message: str) -> str:
    """The present stage in the user's language and without temporary paths."""
    texts = {
        "verify": _("Checking the model"),
        "wait": _("Waiting for another run to end"),
        "read": _("Reading the radiograph"),
        "load": _("Loading the model"),
        "generate": _("Generating"),
        "finish": _("Decoding the volume and scoring it"),
        "write": _("Saving the result"),
    }
    return texts.get(stage, message)


def hintFor(code: int, hint: str) -> str:
    """What to do after a failure, for a user of the panel.

    Args:
        code: exit code of the failure.
        hint: the core's own, which is returned unless it is for the command line.
    """
    if hint and not any(mark in hint for mark in COMMAND_LINE):
        return hint
    hints = {
        EXIT_UNUSABLE_INPUT: _("Choose another radiograph, or see the log."),
        EXIT_BUNDLE: _("Choose another model, or add this one again (section Model)."),
        EXIT_NOT_FRONTAL_CXR: _("Choose another radiograph; Options has a way to go on regardless."),
        EXIT_DEVICE_OR_MEMORY: _(
            "Close other programs, or choose the device cpu or fewer samples (Options)."
        ),
        EXIT_CANCELLED: "",
    }
    return hints.get(code, _("See the log, and report it if it happens again."))


def makeFolder() -> Path:
    """A new folder in Slicer's temporary folder, which only this user can read.

    Folders that a crashed Slicer has left are removed, because they hold a patient's image.
    """
    parent = slicer.app.temporaryPath
    try:
        Path(parent).mkdir(parents=True, exist_ok=True)
        for folder in Path(parent).glob(f"{FOLDER_PREFIX}*"):
            owner = folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]
            if owner.isdecimal() and not is_alive(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=parent))
    except OSError as error:
        raise OutputError(
            _("No folder can be made in {folder}: {reason}.").format(
                folder=parent, reason=error.strerror or error
            ),
            _("Choose another temporary folder in the application settings."),
        ) from error


def removeFolder(folder: Path) -> None:
    """Removes a job's folder; tries again if an ending process still writes to it or holds a file open."""
    for _attempt in range(REMOVE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(REMOVE_PAUSE)
