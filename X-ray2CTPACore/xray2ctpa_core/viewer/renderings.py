"""Colouring of the volume rendering, and the colour bars of overlays and differences."""

from typing import Any

import slicer
import vtk

from xray2ctpa_core import mrml
from xray2ctpa_core.mrml.comparison import FULL_DIFFERENCE_HU
from xray2ctpa_core.mrml.display import RENDERED_COLOURS, RENDERED_OPACITY, rendering_display
from xray2ctpa_core.viewer.display import Display

#: (HU, opacity) and (HU, red, green, blue) by name; the first is the module's.
_Points = tuple[tuple[float, ...], ...]
_POINTS: dict[str, tuple[_Points, _Points]] = {
    "vessels and bone": (RENDERED_OPACITY, RENDERED_COLOURS),
    "bone": (
        ((150.0, 0.0), (250.0, 0.25), (400.0, 0.75), (900.0, 0.95)),
        ((150.0, 0.75, 0.6, 0.5), (400.0, 0.95, 0.88, 0.75), (900.0, 1.0, 1.0, 0.97)),
    ),
    "lung": (
        ((-1000.0, 0.0), (-930.0, 0.0), (-800.0, 0.03), (-600.0, 0.06), (-450.0, 0.0)),
        ((-1000.0, 0.1, 0.15, 0.3), (-750.0, 0.35, 0.55, 0.75), (-450.0, 0.9, 0.75, 0.7)),
    ),
}
_BAR_STEPS = 24
#: Class of the rendering without a GPU: ray casting on the processor takes a sixth of the time of OpenGL in
#: software.
PROCESSOR_CLASS = "vtkMRMLCPURayCastVolumeRenderingDisplayNode"


def show_rendering_as(nodes: mrml.ResultNodes, view_node: Any, display: Display) -> None:
    """Colours the rendering according to ``display``."""
    shown = rendering_display(nodes)
    if shown is None:
        return
    is_mip = display.rendering == "MIP"
    technique = (
        slicer.vtkMRMLViewNode.MaximumIntensityProjection if is_mip else slicer.vtkMRMLViewNode.Composite
    )
    view_node.SetRaycastTechnique(technique)
    opacities: _Points
    colours: _Points
    if is_mip:
        black, white = display.level - display.width / 2, display.level + display.width / 2
        opacities = ((black, 0.0), (white, 1.0))
        colours = ((black, 0.0, 0.0, 0.0), (white, 1.0, 1.0, 1.0))
    else:
        opacities, colours = _POINTS[display.rendering]
    opacity, colour = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for point in opacities:
        opacity.AddPoint(*point)
    for point in colours:
        colour.AddRGBPoint(*point)
    preset = shown.GetVolumePropertyNode()
    preset.SetScalarOpacity(opacity)
    preset.SetColor(colour)


def bars(nodes: mrml.ResultNodes, display: Display) -> list[dict[str, Any]]:
    """The colour bars of the shown overlays: title, colours from low to high, ends, and a note."""
    found: list[dict[str, Any]] = []
    if display.overlay == "gradcam":
        found.append(_bar(nodes.gradcam, "Grad-CAM", "", "SYNTHETIC; not shown below the threshold"))
    elif display.overlay == "radiograph_gradcam" and nodes.radiograph_gradcam is not None:
        note = "of the second opinion, on the radiograph; not shown below the threshold"
        found.append(_bar(nodes.radiograph_gradcam, "Grad-CAM", "", note))
    elif display.overlay == "spread" and nodes.spread is not None:
        found.append(_bar(nodes.spread, "Spread of the samples", "HU", "more has the last colour"))
    return found


def difference_bar(difference: Any) -> dict[str, Any]:
    """The colour bar of a comparison's difference."""
    note = f"differences beyond {FULL_DIFFERENCE_HU:.0f} HU have the last colour"
    return _bar(difference, "Generated minus true", "HU", note)


def _bar(node: Any, title: str, unit: str, note: str) -> dict[str, Any]:
    """The displayed colours of a volume, in _BAR_STEPS steps of "#rrggbb"."""
    display = node.GetDisplayNode()
    level, width = display.GetLevel(), display.GetWindow()
    table = display.GetColorNode().GetLookupTable()
    low, high = table.GetRange()
    rgb = [0.0, 0.0, 0.0]
    colours = []
    for step in range(_BAR_STEPS):
        table.GetColor(low + (high - low) * step / (_BAR_STEPS - 1), rgb)
        colours.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return {
        "title": title,
        "unit": unit,
        "note": note,
        "low": level - width / 2,
        "high": level + width / 2,
        "colours": colours,
    }
