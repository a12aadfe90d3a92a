"""A batch: volumes are generated from a list of radiographs, one after another, into a folder; it can be
resumed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from xray2ctpa_core import mrml
from xray2ctpa_core.constants import EXIT_CANCELLED, EXIT_DONE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.names import PAIR_SUFFIXES, stem_of, suffix_of
from xray2ctpa_core.wording import unreliable

from .ChildProcess import ChildProcess
from .CoreCommand import coreArguments, coreEnvironment
from .InputNode import whyUnusable, writeInput
from .Job import hintFor, makeFolder, removeFolder, stageText
from .Settings import RunSettings

WAITING, ACTIVE, COMPLETE, FAILED = "waiting", "active", "complete", "failed"
#: Modalities of a radiograph in DICOM.
MODALITIES = ("CR", "DX", "RF")
MODALITY_TAG = "0008,0060"


@dataclass
class Row:
    """One radiograph of the list.

    Attributes:
        name: for display.
        source: a file, the id of a node, or None for a node whose scene was closed.
        state: WAITING, ACTIVE, COMPLETE or FAILED.
        message: the present stage, or why it failed.
        score: the model's PE score; None before it is complete.
        unreliable: why the score means nothing for this radiograph, as a sentence; "" if none is known.
        folder: of the result; None before it is complete.
    """

    name: str
    source: Path | str | None
    state: str = WAITING
    message: str = ""
    score: float | None = None
    unreliable: str = ""
    folder: Path | None = None


class Batch:
    """The list, and the child process that processes it.

    A result is a complete folder on the disk; nothing is added to the scene. When the batch is started
    again, the core skips results that are complete and were made with the same settings.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.log: list[str] = []
        self._process: ChildProcess | None = None
        self._onChanged: Callable[[], None] = lambda: None
        self._work: Path | None = None
        self._files: list[Path] = []
        self._current = 0

    @property
    def isRunning(self) -> bool:
        """Whether the list is being processed."""
        return self._process is not None

    def addNodes(self, nodes: Sequence[Any]) -> int:
        """Adds the radiographs' nodes that are not yet in the list; returns their number."""
        return self._add([Row(n.GetName(), n.GetID()) for n in nodes if not whyUnusable(n)])

    def addFiles(self, files: Sequence[Path]) -> int:
        """Adds files that are not yet in the list; returns their number."""
        return self._add([Row(file.name, file) for file in files])

    def addFolder(self, folder: Path) -> int:
        """Adds the image files directly in ``folder``, sorted by name; returns their number."""
        files = [f for f in sorted(folder.iterdir()) if f.is_file() and not f.name.startswith(".")]
        return self.addFiles([f for f in files if _mayBeRadiograph(f)])

    def onSceneClosed(self) -> None:
        """Lets the nodes go: another scene gives their ids to other nodes.

        A run continues, because its files are written already; complete rows can be opened.
        """
        for row in self.rows:
            if isinstance(row.source, str):
                row.source = None

    def clear(self) -> None:
        """Empties the list; files are kept."""
        if not self.isRunning:
            self.rows = []

    def start(
        self,
        settings: RunSettings,
        output: Path,
        onChanged: Callable[[], None],
        mayFetch: bool = False,
        bundleFolders: Sequence[str] = (),
    ) -> None:
        """Starts with the rows that are not complete.

        Raises:
            InputError: the list is empty, or a node of it is no longer in the scene.
            OutputError: a node cannot be written.
        """
        if not self.rows:
            raise InputError(_("Expected at least one chest radiograph, got none."))
        self._onChanged, self._current, self.log = onChanged, 0, []
        self._work = makeFolder()
        try:
            self._files = [self._fileOf(row, n) for n, row in enumerate(self.rows)]
            names = folderNames(self._files)
            arguments = ["generate", *map(str, self._files), "--events", "--out"]
            # For a single input --out is the result's own folder.
            arguments.append(str(output / names[0] if len(names) == 1 else output))
            for row in self.rows:
                row.state, row.message, row.score, row.unreliable, row.folder = WAITING, "", None, "", None
            self._process = ChildProcess(
                coreArguments([*arguments, *settings.arguments()]),
                coreEnvironment(mayFetch, bundleFolders),
                self._onLine,
                self.log.append,
            )
        except BaseException:
            self._close()
            raise
        self._onChanged()

    def poll(self) -> bool:
        """Processes the core's events; True while it runs."""
        if self._process is not None and not self._process.poll():
            code = self._process.exitCode
            self._close()
            if code not in (EXIT_DONE, EXIT_CANCELLED):
                for row in self.rows:
                    if row.state in (WAITING, ACTIVE):
                        row.state, row.message = FAILED, row.message or _("The computation ended early.")
            self._onChanged()
        return self.isRunning

    def cancel(self) -> None:
        """Ends the run at once; complete results are kept and not made again."""
        if self._process is not None:
            self._process.kill()
            self._close()
            for row in self.rows:
                if row.state == ACTIVE:
                    row.state, row.message = WAITING, ""
            self._onChanged()

    def _add(self, rows: Sequence[Row]) -> int:
        known = {row.source for row in self.rows} - {None}
        new = [row for row in rows if row.source not in known]
        self.rows += new
        return len(new)

    def _fileOf(self, row: Row, number: int) -> Path:
        if isinstance(row.source, Path):
            return row.source
        node = slicer.mrmlScene.GetNodeByID(row.source) if row.source is not None else None
        if node is None:
            raise InputError(
                _("{name} is no longer in the scene.").format(name=row.name),
                _("Clear the list, then add the radiographs of this scene."),
            )
        return writeInput(node, self._work / str(number))

    def _onLine(self, line: str) -> None:
        self.log.append(line)
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            return  # output of some library
        row = self.rows[min(self._current, len(self.rows) - 1)]
        if kind == "stage":
            row.state, row.message = ACTIVE, stageText(event["stage"], event["message"])
        elif kind == "progress":
            row.message = f"{round(100 * event['step'] / event['of'])} %"
        elif kind == "result":
            row.state, row.folder = COMPLETE, Path(event["path"])
            pe = event["result"]["pe"]
            row.score, row.unreliable = pe["probability"], unreliable(pe) or ""
            row.message = _("complete before") if event["skipped"] else _("complete")
            self._current += 1
        elif kind == "error":
            row.state = FAILED
            row.message = " ".join(filter(None, (event["message"], hintFor(event["code"], event["hint"]))))
            self._current += 1
        self._onChanged()

    def _close(self) -> None:
        self._process = None
        if self._work is not None:
            removeFolder(self._work)
        self._work = None


def folderNames(files: Sequence[Path]) -> list[str]:
    """What the results of ``files`` are called: by their names without suffixes."""
    return [stem_of(file.name) for file in files]


def dicomRadiographs(database: Any, patient: str) -> list[Path]:
    """The files of a patient's radiographs in the DICOM database."""
    found = []
    for study in database.studiesForPatient(patient):
        for series in database.seriesForStudy(study):
            for file in database.filesForSeries(series):
                if database.fileValue(file, MODALITY_TAG) in MODALITIES:
                    found.append(Path(file))
    return found


def loadRow(row: Row) -> Any:
    """Adds the result of a complete row to the scene, with a reference to the row's node if it has one."""
    if row.folder is None:
        raise InputError(_("{name} has no result yet.").format(name=row.name))
    node = slicer.mrmlScene.GetNodeByID(row.source) if isinstance(row.source, str) else None
    return mrml.load_result(row.folder, slicer.mrmlScene, node)


def whyNotStart(batch: Batch, output: str) -> str:
    """Why the list cannot be processed, as a sentence; "" if it can."""
    if not batch.rows:
        return _("Add chest radiographs to the list.")
    if not output:
        return _("Choose the folder for results first: Options, Save to.")
    return ""


def _mayBeRadiograph(file: Path) -> bool:
    """Whether the name is an image's; DICOM files often have no suffix, or a UID's last number in its place.
    Of a pair the header alone is."""
    suffix = suffix_of(file.name)
    return suffix not in PAIR_SUFFIXES.values() if suffix else not file.suffix or file.suffix[1:].isdigit()
