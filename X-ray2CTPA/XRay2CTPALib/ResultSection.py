"""The part of the panel that shows a result: words, windows, overlay, views, and the run again."""

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from xray2ctpa_core import mrml

from . import Views

#: Title and name of every overlay, in the order of the list.
OVERLAYS = (("Grad-CAM", "gradcam"), ("Grad-CAM levels", "gradcam_label"), ("Spread", "spread"), ("None", ""))


class ResultSection:
    """Acts on the result that is selected."""

    def __init__(
        self, ui: Any, start: Callable[..., None], logic: Any, onViewsChanged: Callable[[], None]
    ) -> None:
        self._ui, self._start, self._logic, self._onViewsChanged = ui, start, logic, onViewsChanged
        ui.resultSelector.addAttribute("vtkMRMLScalarVolumeNode", mrml.RECORD_ATTRIBUTE)
        for title in mrml.WINDOWS:
            ui.windowSelector.addItem(title)
        for title, _name in OVERLAYS:
            ui.overlaySelector.addItem(title)
        ui.resultSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.update)
        ui.windowSelector.connect("currentIndexChanged(int)", self.onWindow)
        ui.overlaySelector.connect("currentIndexChanged(int)", self.onOverlay)
        ui.opacitySlider.connect("valueChanged(double)", self.onOverlay)
        ui.thresholdSlider.connect("valueChanged(double)", self.onThreshold)
        ui.hottestButton.connect("clicked(bool)", self.onHottest)
        ui.layoutButton.connect("clicked(bool)", self.onShow)
        ui.runAgainButton.connect("clicked(bool)", self.onRunAgain)
        ui.renderingCheckBox.connect("toggled(bool)", self.onRendering)
        self.update()

    def current(self) -> mrml.ResultNodes | None:
        """The selected result; None where there is none."""
        return mrml.result_of(self._ui.resultSelector.currentNode())

    def update(self, _node: Any = None) -> None:
        """Says what the selected result says; hides what has nothing to act on."""
        nodes = self.current()
        for widget in (
            self._ui.windowSelector,
            self._ui.overlaySelector,
            self._ui.opacitySlider,
            self._ui.thresholdSlider,
            self._ui.hottestButton,
            self._ui.layoutButton,
            self._ui.runAgainButton,
            self._ui.renderingCheckBox,
        ):
            widget.enabled = nodes is not None
        self._ui.runAgainButton.enabled = nodes is not None and not self._logic.isRunning
        self._ui.resultLabel.text = "" if nodes is None else "\n".join(mrml.sentences(nodes.record))
        if nodes is not None:
            self._onViewsChanged()

    def show(self, nodes: mrml.ResultNodes) -> None:
        """Selects a new result and shows it beside its X-ray."""
        self._ui.resultSelector.setCurrentNode(nodes.ctpa)
        self.update()
        self.onShow()

    def onShow(self) -> None:
        nodes = self.current()
        if nodes is not None:
            Views.showResult(nodes, self._ui.opacitySlider.value)
            self.onOverlay()
            self.onThreshold()
            self.onWindow()
            self.onRendering()
            self._onViewsChanged()

    def onWindow(self) -> None:
        nodes = self.current()
        if nodes is not None:
            mrml.show_window(nodes, list(mrml.WINDOWS)[self._ui.windowSelector.currentIndex])

    def onOverlay(self) -> None:
        nodes = self.current()
        if nodes is not None:
            _title, overlay = OVERLAYS[self._ui.overlaySelector.currentIndex]
            mrml.show_overlay(nodes, slicer.app.applicationLogic(), overlay, self._ui.opacitySlider.value)

    def onThreshold(self) -> None:
        nodes = self.current()
        if nodes is not None:
            mrml.show_evidence_from(nodes, self._ui.thresholdSlider.value)

    def onRendering(self) -> None:
        nodes = self.current()
        if nodes is not None:
            mrml.show_rendering(nodes, self._ui.renderingCheckBox.checked)
            self._onViewsChanged()

    def onHottest(self) -> None:
        nodes = self.current()
        if nodes is not None and not mrml.go_to_hottest(nodes):
            slicer.util.infoDisplay(_("No Grad-CAM evidence reaches the lowest level: no slice is hottest."))

    def onRunAgain(self) -> None:
        node = self._ui.resultSelector.currentNode()
        self._start(lambda **how: self._logic.runAgain(node, **how))
