"""What the application's views show of a film and of a result; pictures for the panel."""

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from xray2ctpa_core import mrml

#: Greys outside these percentiles are saturated in the thumbnail.
THUMBNAIL_PERCENTILES = (0.5, 99.5)


class Annotations:
    """The word SYNTHETIC in a corner of every view that shows a generated volume, while it does."""

    def __init__(self) -> None:
        self._actors: dict[str, tuple[Any, Any]] = {}

    def update(self) -> None:
        """Brings the word to the views now shown, and takes it out of those that show no result."""
        for name, view in _views().items():
            shown = _showsResult(name)
            if name not in self._actors:
                actor = mrml.synthetic_annotation()
                actor.SetVisibility(False)
                renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
                renderer.AddViewProp(actor)
                self._actors[name] = (renderer, actor)
            _renderer, actor = self._actors[name]
            if bool(actor.GetVisibility()) != shown:
                actor.SetVisibility(shown)
                view.scheduleRender()

    def remove(self) -> None:
        """Takes every word out again."""
        for renderer, actor in self._actors.values():
            renderer.RemoveViewProp(actor)
        self._actors = {}


def showResult(nodes: mrml.ResultNodes, evidenceOpacity: float = 0.5) -> None:
    """Shows a result in the module's layout."""
    mrml.use_layout(slicer.mrmlScene)
    slicer.app.processEvents()  # the new views have their sizes only then
    mrml.show_result(nodes, slicer.app.applicationLogic(), evidence_opacity=evidenceOpacity)
    for index in range(slicer.app.layoutManager().threeDViewCount):
        slicer.app.layoutManager().threeDWidget(index).threeDView().resetFocalPoint()


def writeThumbnail(node: Any, path: Path, side: int) -> None:
    """Writes the film of ``node`` as a PNG of at most ``side`` pixels, the patient's right on the left.

    Args:
        node: a volume node that ``whyUnusable`` has nothing against.
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
    """(rows, columns) float of the one slice, as its directions say it is seen from the front."""
    image = node.GetImageData()
    dimensions = image.GetDimensions()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*dimensions[::-1], -1)
    array = array[..., :3].mean(axis=-1).T  # (i, j, k)
    wide = [axis for axis, length in enumerate(dimensions) if length > 1]
    directions = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(directions)
    vectors = slicer.util.arrayFromVTKMatrix(directions)[:3, :3]
    columnAxis, rowAxis = sorted(wide, key=lambda axis: -abs(vectors[0, axis]))
    picture = np.squeeze(np.moveaxis(array, (rowAxis, columnAxis), (0, 1)), axis=2)
    # Columns run to the patient's left, rows to inferior, or to posterior in an axial slice.
    down = vectors[2, rowAxis] if abs(vectors[2, rowAxis]) > abs(vectors[1, rowAxis]) else vectors[1, rowAxis]
    return picture[:: 1 if down < 0 else -1, :: 1 if vectors[0, columnAxis] < 0 else -1]


def _views() -> dict[str, Any]:
    """Name -> view of every slice and 3D view of the layout now shown."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return {}
    views = {name: manager.sliceWidget(name).sliceView() for name in manager.sliceViewNames()}
    for index in range(manager.threeDViewCount):
        views[f"3D {index}"] = manager.threeDWidget(index).threeDView()
    return views


def _showsResult(name: str) -> bool:
    """Whether a view of that name shows anything that was generated."""
    scene = slicer.mrmlScene
    if name.startswith("3D "):
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return any(_isRendered(node) for node in nodes if node.GetAttribute(mrml.RECORD_ATTRIBUTE))
    logic = slicer.app.applicationLogic().GetSliceLogicByLayoutName(name)
    if logic is None:
        return False
    composite = logic.GetSliceCompositeNode()
    ids = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetLabelVolumeID())
    shown = [scene.GetNodeByID(identifier) for identifier in ids if identifier]
    return any(node is not None and node.GetAttribute("XRay2CTPA.Notice") for node in shown)


def _isRendered(node: Any) -> bool:
    displays = [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    return any(
        d is not None and d.IsA("vtkMRMLVolumeRenderingDisplayNode") and d.GetVisibility() for d in displays
    )
