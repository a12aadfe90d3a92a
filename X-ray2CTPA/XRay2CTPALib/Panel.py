"""The panel: its sections, and the connections between them."""

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from . import Annotations
from .BatchSection import BatchSection
from .ComparisonSection import ComparisonSection
from .InputSection import InputSection
from .Installer import Installer
from .Job import Job
from .ModelSection import ModelSection
from .ResultSection import ResultSection
from .RunSection import RunSection
from .SetupSection import SetupSection
from .TriageSection import TriageSection


class Panel(VTKObservationMixin):
    """Draws and forwards; the work is done by the logic.

    Args:
        ui: the widgets of the .ui file by name.
        logic: RunLogic.
        requirementsFile: for the Installer.
    """

    def __init__(self, ui: Any, logic: Any, requirementsFile: str) -> None:
        VTKObservationMixin.__init__(self)
        self._parameters: Any = None
        self.ui = ui
        self._logic = logic
        self._updating = self._awaited = False
        self._installer = Installer(Path(requirementsFile))
        self._missing: list[str] = []
        self.setup = SetupSection(ui, logic, self._installer, self.refresh)
        self.model = ModelSection(ui, logic, self._selectBundle, self.update)
        self.input = InputSection(ui, logic, self._selectInput, self.update)
        self.run = RunSection(ui, logic, self._whyNotApply, self._onJobEnded, self.update)
        dicomInstaller = Installer(Path(requirementsFile).with_name("requirements-dicom.txt"))
        self.result = ResultSection(ui, self.run.start, logic, dicomInstaller)
        self.comparison = ComparisonSection(ui, self.result.current)
        self.triage = TriageSection(ui, self.result.current, logic.bundles)
        self.batch = BatchSection(
            ui, logic, self.result.show, self.run.showLog, self.update, self._whyNotBatch
        )
        ui.noticeLabel.text = _(
            "SYNTHETIC, for research only: whatever is generated here is a hypothesis, never a diagnosis. "
            "Not for patient care."
        )
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self._onSceneChanged)
        Annotations.watch()

    @property
    def parameters(self) -> Any:
        """XRay2CTPAParameterNode; None while the module is not shown."""
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        if parameters is not None:
            self._findMissing()
            self.input.pickOnly(parameters)
            self.result.pickLast()

    def refresh(self) -> None:
        """Checks again what is installed, and shows it."""
        self._findMissing()
        self.update()

    def update(self, _caller: Any = None, _event: Any = None) -> None:
        """Shows the present parameters and everything that depends on them."""
        if self.parameters is None or self._updating:
            return
        self._updating = True  # a section may set further parameters
        try:
            self.setup.update(self.parameters, self._missing)
            self.model.update(self.parameters)
            self.input.update(self.parameters, isInstalled=not self._missing)
            self.run.update(self.parameters, self.model.current)
            self.result.update()
            self.comparison.update()
            self.triage.update()
            self.batch.update(self.parameters)
        finally:
            self._updating = False

    def cleanup(self) -> None:
        """Ends runs; the watch over the views continues, because results remain in the scene."""
        self._parameters = None
        self.removeObservers()
        self.input.forget()
        self._logic.shutDown()

    def _findMissing(self) -> None:
        self._missing = [requirement.name for requirement in self._installer.missing()]

    def _whyNotBatch(self) -> str:
        """Why nothing can be generated from any radiograph now, as a sentence; "" if it can."""
        if self.setup.isInstalling:
            return _("The installation is going on.")
        if self._missing:
            return _("Not everything is installed: see above.")
        return self.model.problem()

    def _whyNotApply(self) -> str:
        """Why nothing can be generated now, as a sentence; "" if it can."""
        return self._whyNotBatch() or self.input.problem(self.parameters)

    def _selectInput(self, node: Any) -> None:
        if self.parameters is not None:
            self.parameters.inputVolume = node

    def _selectBundle(self, source: str) -> None:
        if self.parameters is not None:
            self.parameters.bundle = source

    def _onJobEnded(self, job: Job) -> None:
        if job.results and self.parameters is not None:
            self.result.show(job.results[-1], job.notes)
        self.update()  # nothing is shown while another module is open; the result is in the list

    def _onSceneChanged(self, _caller: Any, _event: Any) -> None:
        """Schedules one update for many nodes, because an added node gets its voxels a little later."""
        if not self._awaited:
            self._awaited = True
            qt.QTimer.singleShot(0, self._onAwaited)

    def _onAwaited(self) -> None:
        self._awaited = False
        if self.parameters is not None:
            self.input.pickOnly(self.parameters)
            self.result.pickLast()
