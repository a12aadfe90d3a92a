"""A true CTPA beside a generated one: on the same grid, with their difference, in linked planes."""

from dataclasses import dataclass
from typing import Any

import slicer

from xray2ctpa_core.constants import SYNTHETIC
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.display import show_between
from xray2ctpa_core.mrml.nodes import ResultNodes
from xray2ctpa_core.mrml.views import PLANE_VIEWS

#: Slice views of the truth and of the difference <- the plane beside which they stand.
TRUTH_VIEWS = {f"{name}Truth": name for name in PLANE_VIEWS}
DIFFERENCE_VIEWS = {f"{name}Difference": name for name in PLANE_VIEWS}
#: Difference in HU that has the full colour.
FULL_DIFFERENCE_HU = 400.0
DIFFERENCE_COLOR_TAG = "XRay2CTPADifference"
_COLOURS = 255


@dataclass(frozen=True)
class Comparison:
    """The nodes of a comparison, on the grid of the generated CTPA.

    Attributes:
        truth: vtkMRMLScalarVolumeNode, HU.
        difference: vtkMRMLScalarVolumeNode, generated minus true, HU; blue below zero, red above.
    """

    truth: Any
    difference: Any


def add_comparison(nodes: ResultNodes, truth: Any) -> Comparison:
    """Adds a true CTPA and its difference from the generated one to the scene of ``nodes``.

    Args:
        nodes: the result.
        truth: (D, H, W) array in HU on the grid of ``nodes.ctpa``.

    Raises:
        InputError: another shape.
    """
    generated = slicer.util.arrayFromVolume(nodes.ctpa)
    if truth.shape != generated.shape:
        raise InputError(f"Expected a truth of {generated.shape} voxels, got {truth.shape}.")
    name = nodes.record["input"]["name"]
    truth = truth.astype("float32")
    true_node = _beside(nodes, f"True CTPA ({name})", truth)
    show_between(true_node, _window_of(nodes.ctpa))
    difference = _beside(nodes, f"Difference, {SYNTHETIC} minus true ({name})", generated - truth)
    colours = _difference_colours(nodes.ctpa.GetScene())
    show_between(difference, (0.0, 2 * FULL_DIFFERENCE_HU), colours.GetID())
    return Comparison(true_node, difference)


def show_comparison(comparison: Comparison, nodes: ResultNodes, application_logic: Any) -> None:
    """Shows truth and difference in their views, in the generated CTPA's window."""
    show_between(comparison.truth, _window_of(nodes.ctpa))
    for views, node in ((TRUTH_VIEWS, comparison.truth), (DIFFERENCE_VIEWS, comparison.difference)):
        for view, plane in views.items():
            logic = application_logic.GetSliceLogicByLayoutName(view)
            if logic is not None:
                logic.GetSliceNode().SetOrientation(PLANE_VIEWS[plane])
                logic.GetSliceCompositeNode().SetBackgroundVolumeID(node.GetID())
                logic.FitSliceToBackground()


def _window_of(node: Any) -> tuple[float, float]:
    """The window (centre, width) in which a volume is displayed."""
    display = node.GetDisplayNode()
    return display.GetLevel(), display.GetWindow()


def _beside(nodes: ResultNodes, name: str, array: Any) -> Any:
    """A new volume node with the place of ``nodes.ctpa``."""
    node = nodes.ctpa.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    node.CopyOrientation(nodes.ctpa)
    node.CreateDefaultDisplayNodes()
    return node


def _difference_colours(scene: Any) -> Any:
    """Blue over black to red: black where generated and true agree."""
    table = slicer.vtkMRMLColorTableNode()
    table.SetSingletonTag(DIFFERENCE_COLOR_TAG)
    table.SetName("Difference from the true CTPA")
    table.SetTypeToUser()
    table.SetNumberOfColors(_COLOURS)
    middle = _COLOURS // 2
    for index in range(_COLOURS):
        part = (index - middle) / middle
        more, less = max(part, 0.0), max(-part, 0.0)
        table.SetColor(index, str(index), more, 0.45 * (more + less) ** 2, less, 1.0)
    return scene.AddNode(table)
