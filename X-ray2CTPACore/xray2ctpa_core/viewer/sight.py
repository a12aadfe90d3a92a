"""Zoom and pan of a plane in slice views, the same in all views of the plane."""

from dataclasses import dataclass, replace
from typing import Any

#: Smallest and largest magnification, relative to the fitted view.
ZOOMS = (0.5, 16.0)


@dataclass(frozen=True)
class Sight:
    """Zoom and pan of a plane.

    Attributes:
        zoom: magnification relative to the fitted view, within ZOOMS.
        right, up: mm in the plane from the middle of the volume to the middle of the view.
    """

    zoom: float = 1.0
    right: float = 0.0
    up: float = 0.0

    def panned(self, view: "Extent", across: float, down: float) -> "Sight":
        """The sight after the content was dragged by shares of the view's width and height."""
        return replace(self, right=self.right - across * view.width_mm, up=self.up + down * view.height_mm)

    def zoomed(self, view: "Extent", factor: float, x: float, y: float) -> "Sight":
        """The sight magnified by ``factor``; the point at (x, y), in shares of the view, keeps its
        position."""
        zoom = min(max(self.zoom * factor, ZOOMS[0]), ZOOMS[1])
        kept = 1 - self.zoom / zoom  # of the way from the middle to the pointer
        return Sight(
            zoom,
            self.right + kept * (view.left + x * view.width_mm - self.right),
            self.up + kept * (view.top - y * view.height_mm - self.up),
        )


@dataclass(frozen=True)
class Extent:
    """The visible part of a plane in mm, from the middle of the volume.

    Attributes:
        left, top: of the view's upper left corner, to the right and upwards.
        width_mm, height_mm: of the view.
    """

    left: float
    top: float
    width_mm: float
    height_mm: float


def extent(node: Any) -> Extent:
    """The visible part of the view of a vtkMRMLSliceNode."""
    width, height, _ = node.GetFieldOfView()
    right, up, _ = node.GetXYZOrigin()
    columns, rows, _ = node.GetDimensions()
    # Slicer puts the centre, not the edge, of the first pixel half a view from the middle.
    left, top = right - width / 2 - width / columns / 2, up + height / 2 - height / rows / 2
    return Extent(left, top, width, height)


def look(node: Any, sight: Sight) -> None:
    """Zooms and pans a vtkMRMLSliceNode that was just fitted."""
    width, height, depth = node.GetFieldOfView()
    node.SetFieldOfView(width / sight.zoom, height / sight.zoom, depth)
    node.SetXYZOrigin(sight.right, sight.up, 0.0)
