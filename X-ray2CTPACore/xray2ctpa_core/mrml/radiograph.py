"""A radiograph as a node: a coronal slice in frontal view; and a map that lies on it."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from xray2ctpa_core.constants import PREVIEW_RADIOGRAPH
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.display import show_between

#: Squares along a side by whose means two images are compared.
_SQUARES = 32


def add_radiograph(
    scene: Any,
    pixels: Any,
    name: str,
    spacing_mm: float = 1.0,
    centre: tuple[float, float] | None = None,
) -> Any:
    """Adds a radiograph as a coronal slice through the origin, seen from the front.

    Args:
        scene: vtkMRMLScene.
        pixels: (H, W) array in [0, 1], rows to inferior, columns to the patient's left.
        name: of the node.
        spacing_mm: of a pixel, both ways.
        centre: (row, column) at the origin, the middle of a result's volume; None for the radiograph's own
            middle.

    Returns:
        vtkMRMLScalarVolumeNode with grey display from 0 to 1.
    """
    rows, columns = len(pixels), len(pixels[0])
    row, column = centre or ((rows - 1) / 2, (columns - 1) / 2)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, pixels[None])
    # Columns (i) run to the left, rows (j) to inferior, the slice's normal (k) to anterior.
    node.SetIJKToRASDirections(-1, 0, 0, 0, 0, 1, 0, -1, 0)
    node.SetSpacing(spacing_mm, spacing_mm, 1.0)
    node.SetOrigin(column * spacing_mm, 0.0, row * spacing_mm)
    node.CreateDefaultDisplayNodes()
    show_between(node, (0.5, 1.0))
    return node


def radiograph_in(preview: Path, shape: Sequence[int] = (1, 1)) -> np.ndarray:
    """(H, W) float32 in 0..1: the greys of the radiograph in a result's preview.png.

    Args:
        preview: the file.
        shape: proportions (height, width) of the radiograph; beside it, its square is empty.

    Raises:
        InputError: no such file, or no image of this kind.
    """
    reader = vtk.vtkPNGReader()
    if preview.is_file() and reader.CanReadFile(str(preview)):
        reader.SetFileName(str(preview))
        reader.Update()
    columns, rows, _ = reader.GetOutput().GetDimensions()
    left, top, side = PREVIEW_RADIOGRAPH
    if columns < left + side or rows < top + side:
        raise InputError(
            f"Expected a preview in {preview}, got {'another image' if preview.exists() else 'none'}.",
            "Generate the result again.",
        )
    colours = vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1]
    down, across = (round(side * length / max(shape)) for length in shape)
    left, top = left + (side - across) // 2, top + (side - down) // 2
    return colours[top : top + down, left : left + across].mean(axis=-1, dtype=np.float32) / 255


def lay_on_radiograph(heat: Any, radiograph: Any, upright: np.ndarray) -> None:
    """Lays a map of the whole radiograph, as the model read it, onto the radiograph's node.

    The core turns an image as its header says (EXIF, PatientOrientation, directions), Slicer only by
    directions. Which turn that was, the greys tell: of the eight the one in which they agree best.

    Args:
        heat: the map's node, one slice (1, h, w), rows to inferior, columns to the patient's left; its
            place changes.
        radiograph: a volume node of one slice.
        upright: (H, W) greys of the radiograph as the model read it.
    """
    array = slicer.util.arrayFromVolume(radiograph).astype(np.float32)
    sizes = radiograph.GetImageData().GetDimensions()
    grey = array.reshape(*sizes[::-1], -1)[..., :3].mean(axis=-1)
    across = sizes.index(1) if 1 in sizes else 2
    first, second = (axis for axis in range(3) if axis != across)
    stored, wanted = _squares(grey.squeeze(2 - across)), _squares(upright)

    def agreement(turn: tuple[bool, int, int]) -> float:
        transposed, down, right = turn
        turned = (stored.T if transposed else stored)[::down, ::right]
        return abs(float(np.corrcoef(turned.ravel(), wanted.ravel())[0, 1]))  # greys may be inverted

    transposed, down, right = max(itertools.product((False, True), (1, -1), (1, -1)), key=agreement)
    rows, columns = (first, second) if transposed else (second, first)
    matrix, placed = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    radiograph.GetIJKToRASMatrix(matrix)
    own = slicer.util.arrayFromVTKMatrix(matrix)
    _, high, wide = slicer.util.arrayFromVolume(heat).shape
    there, corner = np.zeros((4, 4)), np.array([0.0, 0.0, 0.0, 1.0])
    for number, (axis, step, count) in enumerate(((columns, right, wide), (rows, down, high))):
        pixels = sizes[axis] / count
        there[axis, number] = step * pixels
        corner[axis] = pixels / 2 - 0.5 if step > 0 else sizes[axis] - pixels / 2 - 0.5
    there[across, 2] = 1.0
    there[:, 3] = corner
    slicer.util.updateVTKMatrixFromArray(placed, own @ there)
    heat.SetIJKToRASMatrix(placed)
    heat.SetAndObserveTransformNodeID(radiograph.GetTransformNodeID())


def _squares(image: np.ndarray) -> np.ndarray:
    """Means of _SQUARES x _SQUARES parts of an image."""
    parts = [np.array_split(rows, _SQUARES, axis=1) for rows in np.array_split(image, _SQUARES)]
    return np.array([[part.mean() for part in row] for row in parts])
