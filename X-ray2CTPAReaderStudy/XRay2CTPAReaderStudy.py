"""X-ray2CTPA Reader Study: blinded, randomised reading of generated and real volumes; for research only."""

import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from XRay2CTPAReaderStudyLib.Panel import Panel


class XRay2CTPAReaderStudy(ScriptedLoadableModule):
    """The module's entry in the application."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("X-ray2CTPA Reader Study")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = ["XRay2CTPA"]
        parent.contributors = [_("X-ray2CTPA contributors (see CITATION.cff)")]
        parent.helpText = _(
            "Reads a study: real or synthetic, anatomy and slices, pulmonary embolism without and with the "
            "generated CTPA. Cases come in a random order without names; answers are stored at once. "
            'See the <a href="{link}">tutorial</a>.'
        ).format(link="https://github.com/X-ray2CTPA/SlicerXRay2CTPA#reader-study")
        parent.acknowledgementText = _("After the reader studies of X-ray2CTPA, arXiv:2406.16109.")


class XRay2CTPAReaderStudyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Life of the panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.panel = None

    def setup(self):
        """Called when the user opens the module for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/XRay2CTPAReaderStudy.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.panel = Panel(self.ui)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)

    def cleanup(self):
        """Called when the application closes or on a reload; every answer so far is stored."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.cleanup()
            self.uiWidget.deleteLater()
            self.panel = self.ui = self.uiWidget = None

    def onSceneStartClose(self, _caller, _event):
        """The case that is read goes with the scene."""
        self.panel.onSceneClose()

    def onReload(self):
        """Called by the developer's Reload: also reloads the parts of the module."""
        for name in [name for name in sys.modules if name.split(".")[0] == "XRay2CTPAReaderStudyLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class XRay2CTPAReaderStudyTest(ScriptedLoadableModuleTest):
    """Test in the application: the panel opens and asks for a study."""

    def runTest(self):
        slicer.util.selectModule("XRay2CTPAReaderStudy")
        panel = slicer.modules.XRay2CTPAReaderStudyWidget.panel
        assert not panel.ui.startButton.enabled
