"""The panel's section for a result: text, windows, overlay, views, removal, repetition of the run."""

from collections.abc import Callable, Sequence
from typing import Any

import slicer
from slicer.i18n import tr as _

from xray2ctpa_core import mrml
from xray2ctpa_core.errors import XRay2CTPAError
from xray2ctpa_core.wording import unreliable

from . import Annotations, Views
from .DicomBack import DicomBack
from .Installer import Installer


class ResultSection:
    """Shows and changes the selected result."""

    def __init__(self, ui: Any, start: Callable[..., None], logic: Any, dicomInstaller: Installer) -> None:
        self._ui, self._start, self._logic = ui, start, logic
        self._dicomInstaller = dicomInstaller
        self._back: DicomBack | None = None
        self._notes: tuple[str, ...] = ()
        ui.resultSelector.addAttribute("vtkMRMLScalarVolumeNode", mrml.RECORD_ATTRIBUTE)
        for title in (_("CTPA"), _("Lung"), _("Mediastinum")):
            ui.windowSelector.addItem(title)
        self._titles = {
            "gradcam": _("Grad-CAM"),
            "gradcam_label": _("Grad-CAM levels"),
            "spread": _("Spread of the samples"),
            "radiograph_gradcam": _("Grad-CAM on the radiograph"),
            "": _("None"),
        }
        self._overlays: list[str] = []
        ui.resultSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onSelected)
        ui.windowSelector.connect("currentIndexChanged(int)", self.onWindow)
        ui.overlaySelector.connect("currentIndexChanged(int)", self.onOverlay)
        ui.opacitySlider.connect("valueChanged(double)", self.onOverlay)
        ui.thresholdSlider.connect("valueChanged(double)", self.onThreshold)
        ui.hottestButton.connect("clicked(bool)", self.onHottest)
        ui.layoutButton.connect("clicked(bool)", self.onShow)
        ui.runAgainButton.connect("clicked(bool)", self.onRunAgain)
        ui.renderingCheckBox.connect("toggled(bool)", self.onRendering)
        ui.segmentationButton.connect("clicked(bool)", self.onSegmentation)
        ui.dicomButton.connect("clicked(bool)", self.onDicom)
        ui.removeResultButton.connect("clicked(bool)", self.onRemove)
        self.pickLast()
        self.update()

    def current(self) -> mrml.ResultNodes | None:
        """The selected result; None if there is none."""
        return mrml.result_of(self._ui.resultSelector.currentNode())

    def pickLast(self) -> None:
        """Selects the scene's last result if none is selected, for example after a scene was opened."""
        if self._ui.resultSelector.currentNode() is None:
            nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            last = next((node for node in reversed(nodes) if mrml.result_of(node) is not None), None)
            if last is not None:
                self._ui.resultSelector.setCurrentNode(last)

    def onSelected(self, _node: Any = None) -> None:
        self._notes = ()
        self.update()

    def update(self) -> None:
        """Shows the selected result's text; disables controls without a result."""
        nodes = self.current()
        for widget in (
            self._ui.windowSelector,
            self._ui.overlaySelector,
            self._ui.opacitySlider,
            self._ui.thresholdSlider,
            self._ui.hottestButton,
            self._ui.layoutButton,
            self._ui.renderingCheckBox,
            self._ui.segmentationButton,
            self._ui.removeResultButton,
        ):
            widget.enabled = nodes is not None
        writing = self._back is not None and not self._back.ended
        self._ui.dicomButton.enabled = nodes is not None and not writing
        self._ui.dicomButton.text = _("Writing DICOM...") if writing else _("E&xport DICOM")
        self._ui.runAgainButton.enabled = nodes is not None and not self._logic.isRunning
        self._offerOverlays(nodes)
        self._showText(nodes)

    def _offerOverlays(self, nodes: mrml.ResultNodes | None) -> None:
        """Lists the overlays of the selected result; the chosen one is kept, or else it is the first."""
        offered = [name for name in mrml.OVERLAYS if not (nodes and name) or getattr(nodes, name) is not None]
        if offered == self._overlays:
            return
        selector = self._ui.overlaySelector
        chosen = self._overlays[selector.currentIndex] if self._overlays else offered[0]
        self._overlays = offered
        wereBlocked = selector.blockSignals(True)
        selector.clear()
        for name in offered:
            selector.addItem(self._titles[name])
        selector.setCurrentIndex(offered.index(chosen) if chosen in offered else 0)
        selector.blockSignals(wereBlocked)

    def _showText(self, nodes: mrml.ResultNodes | None) -> None:
        """Shows what the result says; its scores are greyed out, below the reason, if they mean nothing."""
        scores = mrml.score_sentences(nodes.record) if nodes is not None else []
        origin = mrml.provenance(nodes.record) if nodes is not None else []
        reason = unreliable(nodes.record["pe"]) if nodes is not None else None
        told = mrml.sentences(nodes.record) if nodes is not None else []
        if nodes is None and self._ui.resultSelector.currentNode() is not None:
            told = [_("Parts of this result were removed or changed: generate it again.")]
        told = [line for line in told if line not in (*scores, *origin, reason)]
        self._ui.unreliableLabel.text = reason or ""
        self._ui.scoreLabel.text = "\n".join(scores[:1])
        self._ui.otherScoresLabel.text = "\n".join(scores[1:])
        self._ui.resultLabel.text = "\n".join([*told, *self._notes])
        self._ui.unreliableLabel.visible = reason is not None
        self._ui.scoreLabel.visible = bool(scores)
        self._ui.otherScoresLabel.visible = len(scores) > 1
        self._ui.resultLabel.visible = bool(told or self._notes)
        self._ui.scoreLabel.toolTip = self._ui.resultLabel.toolTip = "\n".join(origin)
        self._ui.scoreLabel.enabled = self._ui.otherScoresLabel.enabled = reason is None

    def show(self, nodes: mrml.ResultNodes, notes: Sequence[str] = ()) -> None:
        """Selects a new result and shows it; ``notes`` are shown until another one is selected."""
        self._ui.resultSelector.setCurrentNode(nodes.ctpa)
        self._ui.resultCollapsibleButton.collapsed = False
        self._notes = tuple(notes)
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

    def onWindow(self) -> None:
        nodes = self.current()
        if nodes is not None:
            mrml.show_window(nodes, list(mrml.WINDOWS)[self._ui.windowSelector.currentIndex])

    def onOverlay(self) -> None:
        nodes = self.current()
        if nodes is not None:
            overlay = self._overlays[self._ui.overlaySelector.currentIndex]
            mrml.show_overlay(nodes, slicer.app.applicationLogic(), overlay, self._ui.opacitySlider.value)

    def onThreshold(self) -> None:
        nodes = self.current()
        if nodes is not None:
            mrml.show_evidence_from(nodes, self._ui.thresholdSlider.value)

    def onRendering(self) -> None:
        nodes = self.current()
        if nodes is not None:
            mrml.show_rendering(nodes, self._ui.renderingCheckBox.checked)
            Annotations.watch().update()

    def onHottest(self) -> None:
        nodes = self.current()
        if nodes is not None and not mrml.go_to_hottest(nodes):
            slicer.util.infoDisplay(_("No Grad-CAM evidence reaches the lowest level: no slice is hottest."))

    def onSegmentation(self) -> None:
        nodes = self.current()
        if nodes is not None:
            mrml.add_segmentation(nodes)

    def onDicom(self) -> None:
        """Adds the result to the DICOM database; the package for that is installed first, after a
        question."""
        try:
            if self.current() is not None and self._dicomInstaller.install():
                self._back = self._logic.toDicom(self._ui.resultSelector.currentNode(), self._onDicomEnded)
        except XRay2CTPAError as error:
            if not getattr(error, "wasShown", False):
                slicer.util.errorDisplay("\n".join(filter(None, (error.message, error.hint))))
        self.update()

    def _onDicomEnded(self, back: DicomBack) -> None:
        if back.problem:
            slicer.util.errorDisplay(back.problem)
        else:
            place = (
                _("in the study of the radiograph")
                if back.joined
                else _("under a patient of their own, for the radiograph is no DICOM file")
            )
            text = _("{count} DICOM files, marked SYNTHETIC, are in the DICOM database, {place}.")
            self._notes = (*self._notes, text.format(count=back.files, place=place))
        self.update()

    def onRemove(self) -> None:
        """Removes the result from the scene, after a question because this cannot be undone."""
        nodes = self.current()
        if nodes is not None and slicer.util.confirmOkCancelDisplay(
            _("Remove {name} and everything that belongs to it from the scene?").format(
                name=nodes.ctpa.GetName()
            ),
            windowTitle=_("Remove the result?"),
        ):
            mrml.remove_result(nodes)
            self.pickLast()
            self.update()

    def onRunAgain(self) -> None:
        node = self._ui.resultSelector.currentNode()
        self._start(lambda **how: self._logic.runAgain(node, **how))
