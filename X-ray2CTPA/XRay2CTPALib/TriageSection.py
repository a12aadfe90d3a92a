"""The panel's section with the clinical rules: items, D-dimer, the pathway, and the score beside it."""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from xray2ctpa_core import mrml
from xray2ctpa_core.triage.criteria import PERC, WELLS, Criterion
from xray2ctpa_core.triage.rules import FEU_PER_UNIT, d_dimer_feu, wells_score
from xray2ctpa_core.triage.scoring import score_of
from xray2ctpa_core.triage.workflow import TRIAGE_NOTICE, Case, Score, beside, box_texts, way_of

from .Bundles import Bundles
from .Settings import BUNDLE_SOURCE_ATTRIBUTE
from .WorkflowDrawing import draw

#: Width of the drawing in pixels: fits the narrowest dock.
DRAWING_WIDTH = 360


class TriageSection:
    """Draws the result of the core's rules for the entered values, which are not kept in the scene."""

    def __init__(self, ui: Any, current: Callable[[], mrml.ResultNodes | None], bundles: Bundles) -> None:
        self._ui, self._current, self._bundles = ui, current, bundles
        self._shown: Any = None
        ui.triageNoticeLabel.text = _(TRIAGE_NOTICE)
        self.wells = {c.name: self._addBox(ui.wellsFrame.layout(), c) for c in WELLS}
        self.perc = {c.name: self._addBox(ui.percFrame.layout(), c) for c in PERC}
        for unit in FEU_PER_UNIT:
            ui.dimerUnitSelector.addItem(unit)
        ui.unstableCheckBox.connect("toggled(bool)", self.update)
        ui.gestaltCheckBox.connect("toggled(bool)", self.update)
        ui.ageSpinBox.connect("valueChanged(int)", self.update)
        ui.dimerSpinBox.connect("valueChanged(double)", self.update)
        ui.dimerUnitSelector.connect("currentIndexChanged(int)", self.update)
        ui.resultSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.update)
        self.update()

    def case(self) -> Case:
        """The entered values."""
        dimer = self._ui.dimerSpinBox.value
        unit = list(FEU_PER_UNIT)[self._ui.dimerUnitSelector.currentIndex]
        return Case(
            wells=[name for name, box in self.wells.items() if box.checked],
            perc=[name for name, box in self.perc.items() if box.checked],
            gestalt_low=self._ui.gestaltCheckBox.checked,
            age=self._ui.ageSpinBox.value or None,
            d_dimer=d_dimer_feu(dimer, unit) if dimer > 0 else None,
            unstable=self._ui.unstableCheckBox.checked,
        )

    def update(self, _value: Any = None) -> None:
        """Shows the next step of the case, its reasons, and the generated score beside it."""
        case, score = self.case(), self._score()
        palette = self._ui.workflowLabel.palette
        state = (case, score, palette.color(qt.QPalette.Window).name())
        if state == self._shown:
            return  # unchanged
        self._shown, way = state, way_of(case)
        self._ui.triageStepLabel.text = _("Wells {score:g}. Next: {step}.").format(
            score=wells_score(case.wells), step=_(way.step)
        )
        self._ui.triageLabel.text = "\n\n".join([*way.reasons, "\n".join(beside(case, score))])
        self._ui.workflowLabel.setPixmap(draw(way, DRAWING_WIDTH, palette, box_texts(score)))

    def _score(self) -> Score | None:
        """The score of the selected result."""
        nodes = self._current()
        if nodes is None:
            return None
        source = nodes.ctpa.GetAttribute(BUNDLE_SOURCE_ATTRIBUTE) or nodes.record["bundle"]["name"]
        return score_of(nodes.record, self._bundles.find(source).info)

    def _addBox(self, layout: Any, criterion: Criterion) -> Any:
        points = _(" ({points:g})").format(points=criterion.points) if criterion.points else ""
        box = qt.QCheckBox(_(criterion.text) + points)
        box.toolTip = box.text
        layout.addWidget(box)
        box.connect("toggled(bool)", self.update)
        return box
