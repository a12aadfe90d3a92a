"""Shows radiographs and results in the application's views; thumbnails for the panel."""

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from xray2ctpa_core import mrml

from . import Annotations

#: Greys outside these percentiles are saturated in the thumbnail.
THUMBNAIL_PERCENTILES = (0.5, 99.5)


def showResult(nodes: mrml.ResultNodes, evidenceOpacity: float = 0.5) -> None:
    """Shows a result in the module's layout."""
    mrml.use_layout(slicer.mrmlScene)
    slicer.app.processEvents()  # so that the new views have their sizes
    mrml.show_result(nodes, slicer.app.applicationLogic(), evidence_opacity=evidenceOpacity)
    for index in range(slicer.app.layoutManager().threeDViewCount):
        slicer.app.layoutManager().threeDWidget(index).threeDView().resetFocalPoint()
    Annotations.watch().update()


def showComparison(nodes: mrml.ResultNodes) -> None:
    """Shows generated, true and difference in linked planes, one column for each plane."""
    mrml.use_layout(slicer.mrmlScene, mrml.COMPARISON_LAYOUT_ID)
    slicer.app.processEvents()
    logic = slicer.app.applicationLogic()
    mrml.show_result(nodes, logic, layout_id=mrml.COMPARISON_LAYOUT_ID)
    mrml.show_comparison(mrml.Comparison(nodes.truth, nodes.difference), nodes, logic)
    Annotations.watch().update()


def renderingClass() -> str:
    """The class of display node that the user prefers for volume rendering."""
    module = getattr(slicer.modules, "volumerendering", None)
    method = module.logic().GetDefaultRenderingMethod() if module is not None else ""
    return method or mrml.RENDERING_CLASS


def writeThumbnail(node: Any, path: Path, side: int) -> None:
    """Writes the radiograph of ``node`` as a PNG of at most ``side`` pixels, the patient's right on the left.

    Args:
        node: a volume node that can be the input (``whyUnusable``).
    """
    pixels = _uprightGreys(node)
    step = max(1, int(np.ceil(max(pixels.shape) / side)))
    pixels = pixels[::step, ::step]
    low, high = np.percentile(pixels, THUMBNAIL_PERCENTILES)
    scaled = np.clip((pixels - low) / max(high - low, 1e-9), 0, 1) * 255
    scaled = np.ascontiguousarray(scaled[::-1]).astype(np.uint8)  # VTK counts rows from below
    image = vtk.vtkImageData()
    image.SetDimensions(scaled.shape[1], scaled.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(scaled.ravel(), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()


def _uprightGreys(node: Any) -> np.ndarray:
    """(rows, columns) float of the only slice, turned to the frontal view according to its directions."""
    image = node.GetImageData()
    dimensions = image.GetDimensions()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*dimensions[::-1], -1)
    array = array[..., :3].mean(axis=-1).T  # (i, j, k)
    wide = [axis for axis, length in enumerate(dimensions) if length > 1]
    directions = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(directions)
    vectors = slicer.util.arrayFromVTKMatrix(directions)[:3, :3]
    columnAxis, rowAxis = sorted(wide, key=lambda axis: -abs(vectors[0, axis]))
    upright = np.squeeze(np.moveaxis(array, (rowAxis, columnAxis), (0, 1)), axis=2)
    # Columns run to the patient's left, rows to inferior, or to posterior in an axial slice.
    down = vectors[2, rowAxis] if abs(vectors[2, rowAxis]) > abs(vectors[1, rowAxis]) else vectors[1, rowAxis]
    return upright[:: 1 if down < 0 else -1, :: 1 if vectors[0, columnAxis] < 0 else -1]
