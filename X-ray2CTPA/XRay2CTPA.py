"""X-ray2CTPA: from one frontal chest radiograph to a synthetic CT pulmonary angiogram; for research only."""

import sys
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from XRay2CTPALib import Annotations, Sample
from XRay2CTPALib.Installer import Installer
from XRay2CTPALib.Logic import RunLogic
from XRay2CTPALib.Panel import Panel
from XRay2CTPALib.ParameterNode import XRay2CTPAParameterNode

DOCUMENTATION = "https://github.com/X-ray2CTPA/SlicerXRay2CTPA#3d-slicer"


class XRay2CTPA(ScriptedLoadableModule):
    """The module's entry in the application."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("X-ray2CTPA")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = []
        parent.contributors = [_("X-ray2CTPA contributors (see CITATION.cff)")]
        parent.helpText = _(
            "Generates a synthetic CT pulmonary angiogram, a classifier's score and a Grad-CAM map from one "
            "frontal chest radiograph: a hypothesis, never a diagnosis, not for patient care. Images stay "
            'here. See the <a href="{link}">tutorial</a>.'
        ).format(link=DOCUMENTATION)
        parent.acknowledgementText = _("Builds on X-ray2CTPA, arXiv:2406.16109.")
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self):
        """Adds the sample radiograph to Sample Data, and watches for scenes with results, which open with
        views and notice."""
        Annotations.watch()
        Sample.registerSampleData(self.resourcePath("Icons/XRay2CTPASample.png"))


class XRay2CTPAWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel's life cycle: parameters, scene, application."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self._parameterNode = None
        self._guiTag = None

    def setup(self):
        """Called when the user opens the module for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/XRay2CTPA.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = XRay2CTPALogic()
        self.panel = Panel(self.ui, self.logic, self.resourcePath("requirements.txt"))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.setParameterNode(self.logic.getParameterNode())

    def cleanup(self):
        """Called when the application closes or on a reload: ends runs and releases everything."""
        if self.panel is None:
            return
        self.setParameterNode(None)
        self.removeObservers()
        self.panel.cleanup()
        self.uiWidget.setMRMLScene(None)
        self.uiWidget.deleteLater()
        self.panel = self.logic = self.ui = self.uiWidget = None

    def onReload(self):
        """Called by the developer's Reload: also reloads the parts of the module."""
        Annotations.stopWatching()
        for name in [name for name in sys.modules if name.split(".")[0] == "XRay2CTPALib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        """Called each time the user opens the module."""
        self.setParameterNode(self.logic.getParameterNode())

    def exit(self):
        """Called each time the user opens another module; a run continues."""
        self.setParameterNode(None)

    def onSceneStartClose(self, _caller, _event):
        """The parameters are removed with the scene."""
        self.logic.batch.onSceneClosed()
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller, _event):
        """New parameters, if the module is shown."""
        if self.parent.isEntered:
            self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        """Observes ``parameterNode`` instead of the former one; None observes none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.panel.update)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.panel.update)
        self.panel.parameters = parameterNode
        self.panel.update()


class XRay2CTPALogic(ScriptedLoadableModuleLogic, RunLogic):
    """For scripts: ``XRay2CTPALogic().process(cxrNode, steps=4, seed=7)``; see RunLogic."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        RunLogic.__init__(self)

    def getParameterNode(self):
        """The parameters in the scene."""
        return XRay2CTPAParameterNode(super().getParameterNode())


class XRay2CTPATest(ScriptedLoadableModuleTest):
    """Test in the application: the sample radiograph gives a volume; if packages are missing, the panel
    offers to install them."""

    def runTest(self):
        slicer.mrmlScene.Clear(0)
        node = Sample.loadSample()
        missing = Installer(Path(__file__).parent / "Resources" / "requirements.txt").missing()
        if missing:
            self.delayDisplay(_("Not generated: packages are missing, which the panel offers to install."))
            return
        nodes = XRay2CTPALogic().process(node, steps=2)
        assert nodes.ctpa.GetName().startswith("SYNTHETIC")
