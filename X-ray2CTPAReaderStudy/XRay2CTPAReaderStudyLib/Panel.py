"""The reader's panel: the study, the case, its questions."""

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from xray2ctpa_core import __version__
from xray2ctpa_core.errors import XRay2CTPAError
from xray2ctpa_core.reader_study.protocol import QUESTIONS

from .CaseViews import CaseViews
from .Reading import Reading


class Panel:
    """Draws and forwards; ``reading`` is None while no study is read."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.reading: Reading | None = None
        self.groups: dict[str, list[tuple[str, Any]]] = {}
        self._boxes: list[Any] = []
        self._views = CaseViews()
        ui.noticeLabel.text = _(
            "For research only. Volumes of a study may be SYNTHETIC: never use them for patient care."
        )
        ui.studyButton.connect("clicked(bool)", self.onChoose)
        ui.readerEdit.connect("textChanged(QString)", self.update)
        ui.startButton.connect("clicked(bool)", self.onStart)
        ui.nextButton.connect("clicked(bool)", self.onNext)
        ui.pauseButton.connect("clicked(bool)", self.onPause)
        ui.stopButton.connect("clicked(bool)", self.onStop)
        self.update()

    def update(self, _text: Any = None) -> None:
        """Enables what can be done now."""
        reading = self.reading is not None
        self.ui.studyCollapsibleButton.visible = not reading
        self.ui.readingCollapsibleButton.visible = reading
        self.ui.startButton.enabled = bool(self.ui.studyEdit.text and self.ui.readerEdit.text.strip())
        if reading:
            paused = self.reading.isPaused
            self.ui.questionsFrame.enabled = not paused
            self.ui.nextButton.enabled = not paused and len(self.answers()) == len(self.groups)
            self.ui.nextButton.toolTip = (
                _("Stores the answers; there is no way back")
                if self.ui.nextButton.enabled
                else _("Answer every question first.")
            )
            self.ui.pauseButton.text = _("&Go on") if paused else _("&Pause")

    def answers(self) -> dict[str, str]:
        """The chosen value for each question."""
        return {
            name: value
            for name, choices in self.groups.items()
            for value, button in choices
            if button.checked
        }

    def onChoose(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.ui.studyEdit, _("Folder of the study"), "")
        if folder:
            self.ui.studyEdit.text = folder
            self.update()

    def onStart(self) -> None:
        """Starts, or continues where this reader stopped."""
        software = f"{slicer.app.applicationName} {slicer.app.applicationVersion}, core {__version__}"
        try:
            self.reading = Reading(Path(self.ui.studyEdit.text), self.ui.readerEdit.text.strip(), software)
        except XRay2CTPAError as error:
            self._say(error)
            return
        self._goOn()

    def onNext(self) -> None:
        """Stores the answers, then shows the next case."""
        try:
            self.reading.submit(self.answers(), self._views.settings())
        except XRay2CTPAError as error:
            slicer.util.errorDisplay("\n".join(filter(None, (error.message, error.hint))))
            return
        self._goOn()

    def onPause(self) -> None:
        """Hides the case and stops the clock, or continues."""
        if self.reading.isPaused:
            self._views.show(self.reading.folder, self.reading.phase, self.reading.shown)
            self.reading.resume()
        else:
            self.reading.pause()
            self._views.clear()
        self.update()

    def onStop(self) -> None:
        """Ends the session; the present case will be shown again in the next one."""
        self.cleanup()
        self.ui.messageLabel.text = _("Stopped. Every answer so far is stored.")
        self.update()

    def onSceneClose(self) -> None:
        """Ends reading for now: a scene that is closed takes the case with it."""
        if self.reading is not None:
            self.cleanup()
            self.ui.messageLabel.text = _("The scene was closed. Every answer so far is stored; start again.")
            self.update()

    def cleanup(self) -> None:
        """Removes the case from the scene."""
        self._views.clear()
        self.reading = None

    def _goOn(self) -> None:
        """Shows the next case, or the end of the study."""
        try:
            shown = self.reading.next()
            if shown is not None:
                self._views.show(self.reading.folder, self.reading.phase, shown)
        except XRay2CTPAError as error:
            self.cleanup()
            self._say(error)
            return
        if shown is None:
            self.cleanup()
            self.ui.messageLabel.text = _("The study is complete. Thank you.")
            self.update()
            return
        done, count = self.reading.progress()
        self.ui.phaseLabel.text = _(self.reading.phase.title)
        self.ui.caseLabel.text = _("Case {number} of {count}").format(number=done + 1, count=count)
        self.ui.progressBar.setRange(0, count)
        self.ui.progressBar.value = done
        self._ask()
        self.update()

    def _ask(self) -> None:
        """Shows the questions of the phase without answers."""
        for box in self._boxes:
            box.hide()
            box.deleteLater()
        self._boxes, self.groups = [], {}
        for name in self.reading.phase.questions:
            question = QUESTIONS[name]
            box = qt.QGroupBox(_(question.text))
            layout = qt.QVBoxLayout(box)
            self.groups[name] = []
            for value, text in question.answers.items():
                radio = qt.QRadioButton(_(text))
                radio.toolTip = radio.text
                radio.connect("toggled(bool)", self.update)
                layout.addWidget(radio)
                self.groups[name].append((value, radio))
            self.ui.questionsFrame.layout().addWidget(box)
            self._boxes.append(box)

    def _say(self, error: XRay2CTPAError) -> None:
        self.reading = None
        self.ui.messageLabel.text = "\n".join(filter(None, (error.message, error.hint)))
        self.update()
