"""The panel's section that compares a true CTPA with the selected result."""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from xray2ctpa_core import mrml
from xray2ctpa_core.errors import InputError

from . import Views


class ComparisonSection:
    """Resamples a true CTPA to the result's grid and shows both with their difference."""

    def __init__(self, ui: Any, current: Callable[[], mrml.ResultNodes | None]) -> None:
        self._ui, self._current = ui, current
        self._measured: int | None = None
        ui.compareButton.connect("clicked(bool)", self.onCompare)
        ui.truthSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.update)
        ui.resultSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.update)
        self.update()

    def problem(self) -> str:
        """Why nothing can be compared, as a sentence; "" if it can."""
        truth = self._ui.truthSelector.currentNode()
        if self._current() is None:
            return _("Generate a CTPA first, or select one.")
        if truth is None:
            return _("Select a true CTPA.")
        if truth.GetAttribute(mrml.NOTICE_ATTRIBUTE):
            return _("{name} was generated; select a true CTPA.").format(name=truth.GetName())
        image = truth.GetImageData()
        if image is None or min(image.GetDimensions()) < 2:
            return _("{name} has one slice; a CTPA has many.").format(name=truth.GetName())
        return ""

    def update(self, _node: Any = None) -> None:
        """Shows the numbers of the present comparison."""
        reason, nodes = self.problem(), self._current()
        self._ui.compareButton.enabled = not reason
        self._ui.compareButton.toolTip = reason or _(
            "Shows generated, true and their difference in linked planes"
        )
        compared = nodes is not None and nodes.difference is not None
        self._ui.comparisonLabel.visible = compared
        state = nodes.difference.GetImageData().GetMTime() if compared else None
        if compared and state != self._measured:
            mean, absolute = mrml.mean_difference(nodes)
            self._ui.comparisonLabel.text = _(
                "Generated minus true: {mean:+.0f} HU on average, {absolute:.0f} HU without sign. "
                "Blue: less than true, red: more."
            ).format(mean=mean, absolute=absolute)
        self._measured = state

    def onCompare(self) -> None:
        nodes = self._current()
        if nodes is None or self.problem():
            return
        for former in (nodes.truth, nodes.difference):
            if former is not None:
                mrml.remove_with_displays(former)
        try:
            mrml.add_comparison(nodes, mrml.truth_on_grid(self._ui.truthSelector.currentNode(), nodes))
        except InputError as error:
            self._ui.comparisonLabel.text = f"{error.message}\n{error.hint}"
            self._ui.comparisonLabel.visible = True
            return
        self.update()
        Views.showComparison(self._current())
