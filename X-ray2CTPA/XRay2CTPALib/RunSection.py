"""The panel's section for a run: preset, expected time, Generate and Cancel, progress, failure."""

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from xray2ctpa_core.errors import XRay2CTPAError

from . import Estimates
from .Job import CANCELLED, FAILED, RUNNING, Job
from .Logic import isHubId
from .ParameterNode import settingsFrom
from .Settings import CUSTOM, PREVIEW, REFERENCE, STANDARD, presetNumbers


class RunSection:
    """Forwards to the logic, and shows its job."""

    def __init__(
        self,
        ui: Any,
        logic: Any,
        whyNotApply: Callable[[], str],
        onEnded: Callable[[Job], None],
        onChanged: Callable[[], None],
    ) -> None:
        self._ui, self._logic = ui, logic
        self._whyNotApply, self._onEnded, self._onChanged = whyNotApply, onEnded, onChanged
        self._parameters: Any = None
        self._chosen: tuple[str, str] | None = None
        self._log: list[str] = []
        ui.progressFrame.visible = ui.failureFrame.visible = False
        ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        ui.logButton.connect("clicked(bool)", self.onShowLog)
        ui.outputFolderButton.connect("clicked(bool)", self.onChooseFolder)

    def update(self, parameters: Any, bundle: Any) -> None:
        self._parameters = parameters
        if bundle.info is not None:
            self._followPreset(parameters, bundle)
        self._ui.estimateLabel.text = _expectation(parameters, bundle)
        self._ui.presetSelector.toolTip = _expectations(parameters, bundle)
        running = self._logic.isRunning
        reason = "" if running else self._whyNotApply()
        self._ui.applyButton.text = _("Cancel") if running else _("Generate")
        self._ui.applyButton.enabled = running or not reason
        self._ui.applyButton.toolTip = (
            _("End the run; nothing of it is left") if running else reason or _("Generate a synthetic CTPA")
        )

    def onApplyButton(self) -> None:
        """Starts a run, or cancels the present one."""
        if self._logic.isRunning:
            self._logic.cancel()
            return
        settings = settingsFrom(self._parameters)
        mayFetch = isHubId(settings.bundle) and self._mayFetch(settings.bundle)
        if isHubId(settings.bundle) and not mayFetch:
            return
        node, folder = self._parameters.inputVolume, self._parameters.outputFolder
        self.start(
            lambda **how: self._logic.process(node, settings, mayFetch=mayFetch, outputFolder=folder, **how)
        )

    def start(self, begin: Callable[..., Any]) -> None:
        """Starts a run with ``begin``, the logic's ``process`` or ``runAgain``, and shows its progress."""
        self._ui.failureFrame.visible = False
        self._ui.previewLabel.clear()
        try:
            begin(wait=False, onChanged=self._onJob)
        except XRay2CTPAError as error:
            self._showFailure(f"{error.message}\n{error.hint}".strip())
        self._ui.progressFrame.visible = self._logic.isRunning
        self._ui.stageLabel.text = _("Starting...")
        self._ui.progressBar.setRange(0, 0)
        self._onChanged()

    def onShowLog(self) -> None:
        """Opens the section with the computation's output."""
        self._ui.logCollapsibleButton.collapsed = False
        self._ui.logText.setFocus()

    def onChooseFolder(self) -> None:
        """Asks for the folder to which the files of results are also copied."""
        folder = qt.QFileDialog.getExistingDirectory(
            self._ui.outputFolderEdit, _("Folder for results"), self._parameters.outputFolder
        )
        if folder:
            self._parameters.outputFolder = folder

    def showLog(self, lines: list[str]) -> None:
        """Appends the new ones of ``lines`` to the log; a different list replaces it."""
        text = self._ui.logText
        if self._log[: len(lines)] != lines[: len(self._log)]:
            self._log = []
            text.clear()
        for line in lines[len(self._log) :]:
            text.appendPlainText(line)
        self._log = list(lines)

    def _followPreset(self, parameters: Any, bundle: Any) -> None:
        """A newly chosen preset sets steps and samples; other numbers change the preset to custom."""
        sampling, chosen = bundle.info.sampling, (parameters.preset, parameters.bundle)
        numbers = presetNumbers(parameters.preset, sampling.steps, sampling.samples, bundle.info.preset_steps)
        unset = parameters.steps == 0 or parameters.samples == 0
        if unset or (parameters.preset != CUSTOM and chosen != self._chosen):
            parameters.steps, parameters.samples = numbers
        elif parameters.preset != CUSTOM and (parameters.steps, parameters.samples) != numbers:
            parameters.preset = CUSTOM
        self._chosen = (parameters.preset, parameters.bundle)

    def _mayFetch(self, bundle: str) -> bool:
        text = _("{bundle} is fetched from the Hugging Face Hub unless it was before. No image is sent.")
        return bool(slicer.util.confirmOkCancelDisplay(text.format(bundle=bundle), windowTitle=_("Fetch?")))

    def _onJob(self, job: Job) -> None:
        self.showLog(job.log)
        if job.state == RUNNING:
            self._showProgress(job)
            return
        self._ui.progressFrame.visible = False
        if job.state == FAILED:
            self._showFailure("\n".join(failure.text() for failure in job.failures))
        elif job.state == CANCELLED:
            self._ui.previewLabel.clear()
        self._onEnded(job)

    def _showProgress(self, job: Job) -> None:
        progress = job.progress
        left = progress.secondsLeft
        ending = _(", about {seconds} s left").format(seconds=max(1, round(left))) if left is not None else ""
        part = progress.fraction
        self._ui.progressBar.setRange(0, 0 if part is None else 100)
        self._ui.progressBar.value = round(100 * (part or 0))
        self._ui.stageLabel.text = progress.stage + ending
        if progress.preview is not None:
            pixmap = qt.QPixmap(str(progress.preview))
            if not pixmap.isNull():  # the core has removed it in the meantime
                width = self._ui.progressBar.width
                self._ui.previewLabel.setPixmap(pixmap.scaledToWidth(width, qt.Qt.SmoothTransformation))

    def _showFailure(self, text: str) -> None:
        self._ui.failureFrame.visible = True
        self._ui.failureLabel.text = text
        self._ui.logButton.visible = bool(self._log)


def _expectation(parameters: Any, bundle: Any) -> str:
    """Steps, samples, their time and memory on this machine, and limits of the model."""
    lines = [_inWords(parameters.steps, parameters.samples, parameters.device, bundle)]
    if bundle.info is not None and bundle.info.is_demonstration:
        lines.append(_("A demonstration model: its results mean nothing for a patient."))
    return "\n".join(lines)


def _expectations(parameters: Any, bundle: Any) -> str:
    """The same for all presets, one in each line."""
    if bundle.info is None:
        return ""
    sampling = bundle.info.sampling
    return "\n".join(
        f"{preset}: {_inWords(*numbers, parameters.device, bundle)}"
        for preset in (PREVIEW, STANDARD, REFERENCE)
        for numbers in [presetNumbers(preset, sampling.steps, sampling.samples, bundle.info.preset_steps)]
    )


def _inWords(steps: int, samples: int, device: str, bundle: Any) -> str:
    sampleText = _("1 sample") if samples == 1 else _("{n} samples").format(n=samples)
    stepText = _("1 step") if steps == 1 else _("{n} steps").format(n=steps)
    numbers = _("{steps}, {samples}").format(steps=stepText, samples=sampleText)
    expectation = None
    if bundle.info is not None:
        expectation = Estimates.expected(bundle.info.sha256, device, steps, samples)
    if expectation is None:
        return _("{numbers}. Not yet measured how long here (Options, Check installation).").format(
            numbers=numbers
        )
    return _("{numbers}: {expectation} on this machine.").format(
        numbers=numbers, expectation=expectation.text()
    )
