"""Comparison of a true CTPA with a generated one: on the same grid, with their difference, in linked
planes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from xray2ctpa_core.constants import AIR_HU, SYNTHETIC
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.display import DIFFERENCE_COLOR_TAG, restore_displays, show_between, slice_display
from xray2ctpa_core.mrml.result import NOTICE_ATTRIBUTE, ResultNodes, refer_to_comparison
from xray2ctpa_core.mrml.views import PLANE_VIEWS

#: Slice views of the truth and of the difference, by the plane beside which they are shown.
TRUTH_VIEWS = {f"{name}Truth": name for name in PLANE_VIEWS}
DIFFERENCE_VIEWS = {f"{name}Difference": name for name in PLANE_VIEWS}
#: Difference in HU with the full colour.
FULL_DIFFERENCE_HU = 400.0
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
        truth: (D, H, W) array in HU on the grid of ``nodes.ctpa``; NaN where the true one has no voxels,
            which is shown as air with no difference.

    Raises:
        InputError: another shape.
    """
    generated = slicer.util.arrayFromVolume(nodes.ctpa)
    if truth.shape != generated.shape:
        raise InputError(f"Expected a truth of {generated.shape} voxels, got {truth.shape}.")
    name = nodes.ctpa.GetName().removeprefix(f"{SYNTHETIC} CTPA (").removesuffix(")")
    truth = truth.astype("float32")
    true_node = _beside(nodes, f"True CTPA ({name})", truth)
    show_between(true_node, _window_of(nodes.ctpa))
    known = ~np.isnan(truth)
    difference = _beside(
        nodes,
        f"Difference, {SYNTHETIC} minus true ({name})",
        np.where(known, generated - truth, 0.0).astype("float32"),
    )
    slicer.util.arrayFromVolume(true_node)[~known] = AIR_HU
    difference.SetAttribute(NOTICE_ATTRIBUTE, nodes.ctpa.GetAttribute(NOTICE_ATTRIBUTE))
    colours = _difference_colours(nodes.ctpa.GetScene())
    show_between(difference, (0.0, 2 * FULL_DIFFERENCE_HU), colours.GetID())
    refer_to_comparison(nodes, true_node, difference)
    return Comparison(true_node, difference)


def truth_on_grid(node: Any, nodes: ResultNodes) -> np.ndarray:
    """(D, H, W) float32 HU of a CTPA's node, linearly interpolated at the voxels of ``nodes.ctpa``; NaN
    outside it.

    Transforms of both nodes are applied if they are linear.

    Raises:
        InputError: the two do not overlap.
    """
    reslice = vtk.vtkImageReslice()
    source = vtk.vtkImageData()
    source.DeepCopy(node.GetImageData())
    reslice.SetInputData(source)
    axes = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Multiply4x4(_ras_to_ijk(node), _ijk_to_world(nodes.ctpa), axes)
    transform = vtk.vtkTransform()
    transform.SetMatrix(axes)
    reslice.SetResliceTransform(transform)
    columns, rows, slices = nodes.ctpa.GetImageData().GetDimensions()
    reslice.SetOutputExtent(0, columns - 1, 0, rows - 1, 0, slices - 1)
    reslice.SetOutputSpacing(1.0, 1.0, 1.0)
    reslice.SetOutputOrigin(0.0, 0.0, 0.0)
    reslice.SetInterpolationModeToLinear()
    reslice.SetOutputScalarType(vtk.VTK_FLOAT)
    reslice.SetBackgroundLevel(float("nan"))
    reslice.Update()
    scalars = reslice.GetOutput().GetPointData().GetScalars()
    array = vtk_to_numpy(scalars).reshape(slices, rows, columns).copy()
    if np.isnan(array).all():
        raise InputError(
            f"Expected a CTPA that overlaps the generated one, got {node.GetName()}, which lies elsewhere.",
            "Register the two first: move its transform until they overlap.",
        )
    return array


def mean_difference(nodes: ResultNodes) -> tuple[float, float]:
    """(mean, mean absolute) difference in HU of a compared result, generated minus true."""
    array = slicer.util.arrayFromVolume(nodes.difference)
    return float(array.mean()), float(np.abs(array).mean())


def show_comparison(comparison: Comparison, nodes: ResultNodes, application_logic: Any) -> None:
    """Shows truth and difference in their views, in the generated CTPA's window."""
    restore_displays(nodes)
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
    display = slice_display(node)
    return display.GetLevel(), display.GetWindow()


def _ijk_to_world(node: Any) -> Any:
    matrix, to_world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(node.GetParentTransformNode(), None, to_world)
    vtk.vtkMatrix4x4.Multiply4x4(to_world, matrix, matrix)
    return matrix


def _ras_to_ijk(node: Any) -> Any:
    """World RAS -> voxels of ``node``."""
    matrix = _ijk_to_world(node)
    matrix.Invert()
    return matrix


def _beside(nodes: ResultNodes, name: str, array: Any) -> Any:
    """A new volume node with the geometry of ``nodes.ctpa``."""
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
