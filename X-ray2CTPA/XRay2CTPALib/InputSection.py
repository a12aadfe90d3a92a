"""The panel's section for the radiograph: selection, thumbnail, result of the input gate, sample."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from xray2ctpa_core.errors import XRay2CTPAError

from . import Sample
from .InputNode import whyUnusable
from .Question import Question
from .Views import writeThumbnail

THUMBNAIL_PIXELS = 92


class InputSection:
    """Shows before a run whether the selected node can be used.

    Attributes:
        verdict: the gate's answer for the selected node; None before it arrives.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        onSelected: Callable[[Any], None],
        onChanged: Callable[[], None],
    ) -> None:
        self._ui, self._logic = ui, logic
        self._onSelected, self._onChanged = onSelected, onChanged
        self._shown: Any = None
        self._question: Question | None = None
        self.verdict: dict[str, Any] | None = None
        ui.sampleButton.connect("clicked(bool)", self.onLoadSample)

    def problem(self, parameters: Any) -> str:
        """Why the input cannot be used, as a sentence; "" if it can."""
        reason = whyUnusable(parameters.inputVolume)
        if reason:
            return reason
        if self.verdict is not None and not self.verdict["accepted"] and not parameters.force:
            return _("This is not taken for a frontal chest radiograph; Options has a way to go on.")
        return ""

    def update(self, parameters: Any, isInstalled: bool) -> None:
        """Shows the selected node and, if everything is installed, asks the gate about it."""
        node = parameters.inputVolume
        image = node.GetImageData() if node is not None else None
        # Values on which the thumbnail and the answer depend.
        state = (
            node.GetID() if node is not None else "",
            image.GetMTime() if image is not None else 0,
            parameters.bundle,
            isInstalled,
        )
        if state == self._shown:
            return
        self.forget()
        self._shown = state
        self._ui.thumbnailLabel.clear()
        reason = whyUnusable(node)
        if reason:
            self._ui.gateLabel.text = reason
            return
        self._showThumbnail(node)
        if not isInstalled:
            self._ui.gateLabel.text = _("The radiograph is checked once everything is installed.")
            return
        self._ui.gateLabel.text = _("Checking the radiograph...")
        try:
            self._question = self._logic.check(node, parameters.bundle, self._onAnswer)
        except XRay2CTPAError as error:
            self._ui.gateLabel.text = f"{error.message}\n{error.hint}"

    def pickOnly(self, parameters: Any) -> None:
        """Selects the scene's only radiograph if none is selected."""
        if parameters.inputVolume is None:
            found = usableNodes()
            if len(found) == 1:
                self._onSelected(found[0])

    def onLoadSample(self) -> None:
        self._onSelected(Sample.loadSample())

    def forget(self) -> None:
        """Discards the pending answer about the former node."""
        if self._question is not None:
            self._question.cancel()
        self._question, self.verdict, self._shown = None, None, None

    def _showThumbnail(self, node: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "thumbnail.png"
            writeThumbnail(node, path, 4 * THUMBNAIL_PIXELS)
            pixmap = qt.QPixmap(str(path))
        self._ui.thumbnailLabel.setPixmap(
            pixmap.scaled(
                THUMBNAIL_PIXELS, THUMBNAIL_PIXELS, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation
            )
        )

    def _onAnswer(self, question: Question) -> None:
        if question is not self._question:
            return
        self._question = None
        if question.succeeded:
            content = question.content
            self.verdict = content["gate"]
            score = self.verdict["is_frontal_cxr"]
            verdict = (
                _("Taken for an upright frontal chest radiograph (score {score:.2f}).")
                if self.verdict["accepted"]
                else _("NOT taken for an upright, complete frontal chest radiograph (score {score:.2f}).")
            ).format(score=score)
            remarks = [*self.verdict["warnings"], *content["input"]["notes"]]
            self._ui.gateLabel.text = "\n".join([verdict, *remarks])
        else:
            self._ui.gateLabel.text = question.text
        self._onChanged()


def usableNodes() -> list[Any]:
    """The nodes of the scene that can be the input, in the scene's order."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")  # vector volumes are scalar volumes too
    return [node for node in nodes if not whyUnusable(node)]
