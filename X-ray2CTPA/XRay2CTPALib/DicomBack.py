"""Adds a result to Slicer's DICOM database: the core writes DICOM files in a child process, which are then
imported."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from xray2ctpa_core import mrml
from xray2ctpa_core.errors import InputError, OutputError

from .InputNode import sourceFile
from .Job import makeFolder, removeFolder
from .Question import Question


class DicomBack(Question):
    """Writes the volume and the Grad-CAM of a result as DICOM and adds them to the database, in the study of
    its radiograph if that is DICOM; calls ``onAnswer`` with this object at the end.

    Attributes:
        files: number of these files in the database.
        joined: whether they are in the radiograph's study.
        problem: why not all of them are in the database, as sentences; "" if they are.

    Raises:
        InputError, OutputError: from the constructor, if there is no database, or nothing can be written.
    """

    def __init__(
        self, nodes: mrml.ResultNodes, onAnswer: Callable[["DicomBack"], None] | None = None
    ) -> None:
        self.files, self.joined, self.problem = 0, False, ""
        self._database = openDatabase()
        self._onWritten = onAnswer or (lambda _back: None)
        folder = makeFolder()
        try:
            result, self._target = folder / "result", folder / "dicom"
            writeResult(nodes, result)
            node = nodes.ctpa.GetNodeReference(mrml.RADIOGRAPH_REFERENCE)
            radiograph = sourceFile(node) if node is not None else None
            cxr = ["--cxr", str(radiograph)] if radiograph is not None else []
            arguments = ["dicom", str(result), str(self._target), "--json", *cxr]
            super().__init__(arguments, self._takeIn, folder=folder)
        except BaseException:
            removeFolder(folder)
            raise

    def _takeIn(self, _question: Question) -> None:
        """Imports the written files into the database, and sets the attributes."""
        if self.succeeded:
            self.joined = bool(self.content["in_the_radiographs_study"])
            try:
                self.files = importFiles(self._database, self._target, self.content["series"])
            except OutputError as error:
                self.problem = "\n".join(filter(None, (error.message, error.hint)))
        else:
            self.problem = self.text
        self._onWritten(self)


def openDatabase() -> Any:
    """Slicer's DICOM database; raises InputError if none is open."""
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        raise InputError(
            _("The DICOM database is not open."),
            _("Open the module DICOM once, and choose a folder for its database."),
        )
    return database


def writeResult(nodes: mrml.ResultNodes, folder: Path) -> None:
    """Writes the nodes' own voxels and record as a result folder for the core's command.

    Transforms of nodes in the scene are not part of the result and are ignored.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(nodes.record), encoding="utf-8")
        written = all(
            _write(node, folder / name)
            for node, name in ((nodes.ctpa, "ctpa.nii.gz"), (nodes.gradcam, "gradcam.nii.gz"))
        )
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error
    if not written:
        raise _unwritable(folder, _("a volume was not written"))


def importFiles(database: Any, folder: Path, series: Mapping[str, Sequence[str]]) -> int:
    """Copies DICOM files into the database.

    Args:
        database: of ``openDatabase``.
        folder: holds the files.
        series: SeriesInstanceUID -> the names of its files.

    Returns:
        The number of files of these series in the database.

    Raises:
        OutputError: some are missing there.
    """
    from DICOMLib import DICOMUtils

    DICOMUtils.importDicom(str(folder), database, True)  # it reports failures in the log only
    found = sum(len(database.filesForSeries(uid)) for uid in series)
    expected = sum(len(names) for names in series.values())
    if found < expected:
        raise OutputError(
            _("The DICOM database took {found} of {expected} files.").format(found=found, expected=expected),
            _("Look into the error log, and for free space where the database lies."),
        )
    return found


def _write(node: Any, file: Path) -> bool:
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(file))
    return bool(storage.WriteData(node)) and file.is_file()


def _unwritable(folder: Path, reason: str) -> OutputError:
    return OutputError(
        _("The result could not be written to {folder}: {reason}.").format(folder=folder, reason=reason),
        _("Free some space on that disk, or choose another temporary folder in the settings."),
    )
