"""A radiograph as a node: a coronal slice in frontal view."""

from typing import Any

import slicer

from xray2ctpa_core.mrml.display import show_between


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
