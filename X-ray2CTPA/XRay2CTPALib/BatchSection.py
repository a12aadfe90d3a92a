"""The part of the panel that lists radiographs for a batch, with the state and the score of each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from xray2ctpa_core.errors import XRay2CTPAError

from .Batch import COMPLETE, FAILED, Row, dicomRadiographs, loadRow, whyNotStart
from .InputSection import usableNodes
from .Job import Failure
from .ParameterNode import settingsFrom

#: Column of the table with the score; grey that is visible in both palettes, of a score that means nothing.
SCORE_COLUMN, GREY = 2, "#8c8c8c"


class BatchSection:
    """Draws the logic's batch as a table; calls ``onOpen`` with the nodes of a row that is opened."""

    def __init__(
        self,
        ui: Any,
        logic: Any,
        onOpen: Callable[[Any], None],
        onLog: Callable[[list[str]], None],
        onChanged: Callable[[], None],
        whyNotRun: Callable[[], str],
    ) -> None:
        self._ui, self._logic, self._batch = ui, logic, logic.batch
        self._onOpen, self._onLog, self._onChanged = onOpen, onLog, onChanged
        self._whyNotRun = whyNotRun
        self._parameters: Any = None
        self._wasRunning = False
        ui.batchTable.setHorizontalHeaderLabels([_("Radiograph"), _("State"), _("Score")])
        ui.batchTable.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        ui.batchTable.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        ui.batchTable.connect("cellDoubleClicked(int,int)", self.onOpenRow)
        ui.batchSceneButton.connect("clicked(bool)", self.onAddScene)
        ui.batchFolderButton.connect("clicked(bool)", self.onAddFolder)
        ui.batchDicomButton.connect("clicked(bool)", self.onAddDicom)
        ui.batchStartButton.connect("clicked(bool)", self.onStart)
        ui.batchClearButton.connect("clicked(bool)", self.onClear)

    def update(self, parameters: Any) -> None:
        """Shows whether the list can be started and, if not, why."""
        self._parameters = parameters
        running = self._batch.isRunning
        reason = "" if running else whyNotStart(self._batch, parameters.outputFolder) or self._whyNotRun()
        if not running and not reason and self._logic.isRunning:
            reason = _("A run is going on.")
        self._ui.batchStartButton.text = _("Stop &batch") if running else _("Start &batch")
        self._ui.batchStartButton.enabled = running or not reason
        self._ui.batchStartButton.toolTip = reason or _(
            "What is complete in the output folder already is not made again"
        )
        self._ui.batchClearButton.enabled = bool(self._batch.rows) and not running
        self._showRows()
        done = sum(row.state == COMPLETE for row in self._batch.rows)
        counted = _("{done} of {count} complete.").format(done=done, count=len(self._batch.rows))
        said = " ".join(filter(None, (counted if self._batch.rows else "", reason)))
        self._ui.batchLabel.text = "\n".join(filter(None, (said, *_cautions(self._batch.rows))))

    def onAddScene(self) -> None:
        self._batch.addNodes(usableNodes())
        self._onChanged()

    def onAddFolder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self._ui.batchTable, _("Folder with radiographs"), "")
        if folder:
            self._batch.addFolder(Path(folder))
            self._onChanged()

    def onAddDicom(self) -> None:
        """Asks for a patient of the DICOM database."""
        database = getattr(slicer, "dicomDatabase", None)
        patients = list(database.patients()) if database is not None else []
        if not patients:
            slicer.util.infoDisplay(
                _("The DICOM database is empty: import radiographs in the DICOM module first.")
            )
            return
        names = [f"{database.nameForPatient(p)} ({p})" for p in patients]
        chosen = qt.QInputDialog.getItem(
            self._ui.batchTable, _("DICOM database"), _("Radiographs of the patient:"), names, 0, False
        )
        chosen = chosen[0] if isinstance(chosen, tuple) else chosen
        if chosen in names:
            self._batch.addFiles(dicomRadiographs(database, patients[names.index(chosen)]))
            self._onChanged()

    def onStart(self) -> None:
        """Starts or stops the batch; complete results are kept."""
        if self._batch.isRunning:
            self._logic.cancel()
            self._onChanged()
            return
        try:
            self._logic.startBatch(
                settingsFrom(self._parameters), self._parameters.outputFolder, self._onBatch
            )
        except XRay2CTPAError as error:
            self._ui.batchLabel.text = Failure(error.message, error.hint).text()
            return
        self._onChanged()

    def onClear(self) -> None:
        self._batch.clear()
        self._onChanged()

    def onOpenRow(self, number: int, _column: int = 0) -> None:
        """Adds the result of a complete row to the scene and shows it."""
        row = self._batch.rows[number]
        if row.state == COMPLETE:
            try:
                self._onOpen(loadRow(row))
            except XRay2CTPAError as error:
                self._ui.batchLabel.text = Failure(error.message, error.hint).text()

    def _onBatch(self) -> None:
        self._onLog(self._batch.log)
        if self._wasRunning != self._batch.isRunning:
            self._wasRunning = self._batch.isRunning
            self._onChanged()
        elif self._parameters is not None:
            self.update(self._parameters)

    def _showRows(self) -> None:
        table = self._ui.batchTable
        table.setRowCount(len(self._batch.rows))
        for number, row in enumerate(self._batch.rows):
            for column, text in enumerate((row.name, _stateText(row), _scoreText(row))):
                greyed = column == SCORE_COLUMN and bool(row.unreliable)
                item = table.item(number, column)
                if item is None or greyed != (item.foreground().color().name() == GREY):
                    item = qt.QTableWidgetItem()
                    table.setItem(number, column, item)
                    if greyed:
                        item.setForeground(qt.QBrush(qt.QColor(GREY)))
                item.setText(text)
                told = ". ".join(filter(None, (row.message, row.unreliable)))
                item.setToolTip(f"{row.name}: {told}" if told else str(row.source or row.name))


def _cautions(rows: Sequence[Row]) -> list[str]:
    """How many radiographs failed and how many scores are greyed out, with the reason of the first of each;
    the others' reasons are the tooltips of their rows."""
    failed = [(row.name, row.message) for row in rows if row.state == FAILED]
    greyed = [(row.name, row.unreliable) for row in rows if row.unreliable]
    texts = (
        (_("{count} failed, {name}: {reason}"), failed),
        (_("{count} greyed out, {name}: {reason}"), greyed),
    )
    return [
        text.format(count=len(found), name=found[0][0], reason=found[0][1]) for text, found in texts if found
    ]


def _stateText(row: Row) -> str:
    return row.message if row.message and row.state != FAILED else _(row.state)


def _scoreText(row: Row) -> str:
    return "" if row.score is None else f"{row.score:.2f}"
