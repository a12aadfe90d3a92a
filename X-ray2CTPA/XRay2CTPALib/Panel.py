"""The panel: its sections, and what they tell one another."""

from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from .InputSection import InputSection
from .Installer import Installer
from .Job import Job
from .ModelSection import ModelSection
from .ResultSection import ResultSection
from .RunSection import RunSection
from .SetupSection import SetupSection
from .Views import Annotations


class Panel(VTKObservationMixin):
    """Draws and forwards; what is done lies in the logic.

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
        self._updating = False
        self._missing: list[str] = []
        self._installer = Installer(Path(requirementsFile))
        self._annotations = Annotations()
        self.setup = SetupSection(ui, logic, self._installer, self.update)
        self.model = ModelSection(ui, logic, self._selectBundle, self.update)
        self.input = InputSection(ui, logic, self._selectInput, self.update)
        self.run = RunSection(ui, logic, self._whyNotApply, self._onJobEnded, self.update)
        self.result = ResultSection(ui, self.run.start, logic, self._watchViews)
        ui.noticeLabel.text = _(
            "Whatever is generated here is SYNTHETIC: a hypothesis, never a diagnosis. Do not use it for "
            "patient care."
        )

    @property
    def parameters(self) -> Any:
        """XRay2CTPAParameterNode; None while the module is not shown."""
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        if parameters is None:
            self.input.forget()

    def update(self, _caller: Any = None, _event: Any = None) -> None:
        """Shows the parameters as they are now, and what follows from them."""
        if self.parameters is None or self._updating:
            return
        self._updating = True  # a section may set further parameters
        try:
            self._missing = [requirement.name for requirement in self._installer.missing()]
            self.setup.update(self.parameters, self._missing)
            self.model.update(self.parameters)
            self.input.update(self.parameters, isInstalled=not self._missing)
            self.run.update(self.parameters, self.model.current)
            self.result.update()
        finally:
            self._updating = False

    def cleanup(self) -> None:
        """Ends what runs and takes everything of the panel out of the application."""
        self._logic.shutDown()
        self.removeObservers()
        self._annotations.remove()

    def _whyNotApply(self) -> str:
        """Why nothing can be generated now, as a sentence; "" where it can."""
        if self._missing:
            return _("Not everything is installed: see above.")
        return self.input.problem(self.parameters) or self.model.problem()

    def _selectInput(self, node: Any) -> None:
        if self.parameters is not None:
            self.parameters.inputVolume = node

    def _selectBundle(self, source: str) -> None:
        if self.parameters is not None:
            self.parameters.bundle = source

    def _onJobEnded(self, job: Job) -> None:
        if job.results and self.parameters is not None:
            self.result.show(job.results[-1])
        self.update()  # in another module nothing is shown, the result waits in the list

    def _watchViews(self) -> None:
        """Keeps the word SYNTHETIC in every view that shows a result, whoever changes what is shown."""
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        for node in composites:
            if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._onViewChanged):
                self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onViewChanged)
        self._annotations.update()

    def _onViewChanged(self, _caller: Any, _event: Any) -> None:
        self._annotations.update()
