"""Display of a result's nodes: windows, colours, legend, volume rendering."""

from collections.abc import Callable
from typing import Any

import slicer
import vtk

from xray2ctpa_core.constants import (
    CTPA_DISPLAY_WINDOW,
    GRADCAM_LABEL_THRESHOLDS,
    LUNG_DISPLAY_WINDOW,
    MEDIASTINUM_DISPLAY_WINDOW,
    SYNTHETIC,
)
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.result import ResultNodes

#: Attribute of the slice displays that this module has set.
DISPLAY_ATTRIBUTE = "XRay2CTPA.Display"
#: Name and colour (RGB, opacity) of the Grad-CAM label map's values 0..3.
GRADCAM_LABELS = (
    ("background", (0.0, 0.0, 0.0, 0.0)),
    ("low", (0.99, 0.75, 0.20, 0.35)),
    ("medium", (0.95, 0.40, 0.13, 0.55)),
    ("high", (0.75, 0.05, 0.15, 0.75)),
)
GRADCAM_COLOR_TAG = "XRay2CTPAGradCAM"
DIFFERENCE_COLOR_TAG = "XRay2CTPADifference"
#: Display window (centre, width) in HU of the standard deviation over samples.
SPREAD_DISPLAY_WINDOW = (100.0, 200.0)
#: Windows (centre, width) in HU that a CTPA can be shown in, by name.
WINDOWS = {
    "CTPA": CTPA_DISPLAY_WINDOW,
    "lung": LUNG_DISPLAY_WINDOW,
    "mediastinum": MEDIASTINUM_DISPLAY_WINDOW,
}
#: Colour (RGB) and size of the word SYNTHETIC in views of generated data.
ANNOTATION_COLOUR = (1.0, 0.72, 0.3)
ANNOTATION_POINTS = 16

# Volume rendering of a CTPA: lungs a faint veil, contrast-filled vessels red, bone and dense contrast white.
RENDERED_OPACITY = ((-1000.0, 0.0), (-850.0, 0.0), (-700.0, 0.012), (-400.0, 0.0), (120.0, 0.0),
                    (200.0, 0.12), (300.0, 0.45), (600.0, 0.8))  # fmt: skip
RENDERED_COLOURS = ((-1000.0, 0.25, 0.3, 0.4), (-500.0, 0.5, 0.6, 0.72), (100.0, 0.62, 0.18, 0.15),
                    (220.0, 0.85, 0.3, 0.22), (330.0, 0.93, 0.62, 0.45), (480.0, 0.98, 0.92, 0.82),
                    (900.0, 1.0, 1.0, 0.97))  # fmt: skip
#: Class of the volume rendering if the application prefers no other method.
RENDERING_CLASS = "vtkMRMLGPURayCastVolumeRenderingDisplayNode"
#: Ambient, diffuse and specular parts of the light.
RENDERED_LIGHT = (0.3, 0.9, 0.15)


def show_window(nodes: ResultNodes, name: str) -> None:
    """Shows the CTPA in the window ``name`` of WINDOWS; raises InputError for another name."""
    if name not in WINDOWS:
        raise InputError(f"Expected one of {', '.join(WINDOWS)}, got the window {name!r}.")
    show_between(nodes.ctpa, WINDOWS[name])


def show_evidence_from(nodes: ResultNodes, threshold: float) -> None:
    """Shows the Grad-CAM maps where they are at least ``threshold`` (0..1)."""
    restore_displays(nodes)
    for node in filter(None, (nodes.gradcam, nodes.radiograph_gradcam)):
        slice_display(node).SetThreshold(threshold, 1.0)


def show_rendering(nodes: ResultNodes, visible: bool) -> None:
    """Turns the volume rendering in the 3D view on or off."""
    if visible and rendering_display(nodes) is None:  # somebody has removed it
        _add_rendering(nodes.ctpa, nodes.ctpa.GetScene(), RENDERING_CLASS)
    display = rendering_display(nodes)
    if display is not None:
        display.SetVisibility(visible)


def synthetic_annotation() -> Any:
    """A 2D actor with the word SYNTHETIC for the lower right corner of a view."""
    actor = corner_text(SYNTHETIC, ANNOTATION_COLOUR)
    actor.GetTextProperty().SetJustificationToRight()
    actor.GetPositionCoordinate().SetValue(0.98, 0.02)
    return actor


def corner_text(text: str, colour: tuple[float, float, float]) -> Any:
    """A 2D actor with ``text`` that is readable on any grey, at a position in shares of its view (0..1)."""
    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.GetTextProperty().SetFontSize(ANNOTATION_POINTS)
    actor.GetTextProperty().SetColor(*colour)
    actor.GetTextProperty().SetShadow(True)
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    return actor


def display_result(nodes: ResultNodes, scene: Any, rendering_class: str = RENDERING_CLASS) -> None:
    """Sets fixed windows, colours, and a volume rendering that is off at first."""
    restore_displays(nodes)
    _add_legend(nodes.gradcam_label, scene)
    _add_rendering(nodes.ctpa, scene, rendering_class)


def restore_displays(nodes: ResultNodes) -> None:
    """Sets the display of volumes that have none of this module: it is new, or was removed by hand.

    In the place of a removed one, slice views make one with other colours.
    """
    for name, show in _SHOWN.items():
        node = getattr(nodes, name)
        if node is not None and slice_display(node).GetAttribute(DISPLAY_ATTRIBUTE) is None:
            show(node)
            slice_display(node).SetAttribute(DISPLAY_ATTRIBUTE, name)


def rendering_display(nodes: ResultNodes) -> Any | None:
    """The CTPA's volume rendering, or None if it was removed."""
    for number in range(nodes.ctpa.GetNumberOfDisplayNodes()):
        display = nodes.ctpa.GetNthDisplayNode(number)
        if display is not None and display.IsA("vtkMRMLVolumeRenderingDisplayNode"):
            return display
    return None


def is_used(colours: Any) -> bool:
    """Whether anything in the scene uses the colour table."""
    scene, name = colours.GetScene(), "vtkMRMLVolumeDisplayNode"
    displays = [scene.GetNthNodeByClass(n, name) for n in range(scene.GetNumberOfNodesByClass(name))]
    return any(display.GetColorNodeID() == colours.GetID() for display in displays)


def show_between(node: Any, window: tuple[float, float], color_id: str = "vtkMRMLColorTableNodeGrey") -> None:
    """Sets the display to ``window`` (centre, width) instead of one derived from the voxels."""
    display = slice_display(node)
    display.SetAndObserveColorNodeID(color_id)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(window[1], window[0])


def slice_display(node: Any) -> Any:
    """A volume's first display node, which slice views show it by; a new one if it was removed."""
    if node.GetVolumeDisplayNode() is None:  # another display, as a rendering, may be the first now
        others = [node.GetNthDisplayNodeID(number) for number in range(node.GetNumberOfDisplayNodes())]
        node.RemoveAllDisplayNodeIDs()
        node.CreateDefaultDisplayNodes()
        for identifier in others:
            node.AddAndObserveDisplayNodeID(identifier)
    return node.GetVolumeDisplayNode()


def _show_gradcam(node: Any) -> None:
    show_between(node, (0.5, 1.0), color_id="vtkMRMLColorTableNodeIron")
    node.GetDisplayNode().SetThreshold(GRADCAM_LABEL_THRESHOLDS[0], 1.0)
    node.GetDisplayNode().SetApplyThreshold(True)


def _show_label(node: Any) -> None:
    slice_display(node).SetAndObserveColorNodeID(_gradcam_color_node(node.GetScene()).GetID())


#: How each volume of a result is shown in slice views.
_SHOWN: dict[str, Callable[[Any], None]] = {
    "ctpa": lambda node: show_between(node, CTPA_DISPLAY_WINDOW),
    "gradcam": _show_gradcam,
    "gradcam_label": _show_label,
    "radiograph_gradcam": _show_gradcam,
    "spread": lambda node: show_between(node, SPREAD_DISPLAY_WINDOW),
}


def _gradcam_color_node(scene: Any) -> Any:
    """The scene's one colour table for Grad-CAM label maps."""
    table = slicer.vtkMRMLColorTableNode()
    table.SetSingletonTag(GRADCAM_COLOR_TAG)
    table.SetName("Grad-CAM of the PE classifier")
    table.SetTypeToUser()
    table.SetNumberOfColors(len(GRADCAM_LABELS))
    for value, (name, color) in enumerate(GRADCAM_LABELS):
        table.SetColor(value, name, *color)
    return scene.AddNode(table)


def _add_legend(label: Any, scene: Any) -> None:
    """A legend with the names of the levels, shown in views that show the label map."""
    legend = slicer.vtkMRMLColorLegendDisplayNode()
    legend.SetName(f"{label.GetName()} legend")
    legend.SetTitleText(f"{SYNTHETIC}\nGrad-CAM")
    legend.SetUseColorNamesForLabels(True)
    legend.SetMaxNumberOfColors(len(GRADCAM_LABELS))
    legend.SetNumberOfLabels(len(GRADCAM_LABELS))
    scene.AddNode(legend)
    legend.SetAndObservePrimaryDisplayNode(label.GetDisplayNode())
    label.AddAndObserveDisplayNodeID(legend.GetID())


def _add_rendering(ctpa: Any, scene: Any, rendering_class: str) -> None:
    """A volume rendering of ``ctpa`` with RENDERED_OPACITY and RENDERED_COLOURS, not yet visible."""
    opacity, colours = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for point in RENDERED_OPACITY:
        opacity.AddPoint(*point)
    for colour in RENDERED_COLOURS:
        colours.AddRGBPoint(*colour)
    preset = slicer.vtkMRMLVolumePropertyNode()
    preset.SetName(f"{ctpa.GetName()} volume property")
    preset.SetScalarOpacity(opacity)
    preset.SetColor(colours)
    appearance = preset.GetVolumeProperty()
    appearance.SetInterpolationTypeToLinear()
    appearance.ShadeOn()
    appearance.SetAmbient(RENDERED_LIGHT[0])
    appearance.SetDiffuse(RENDERED_LIGHT[1])
    appearance.SetSpecular(RENDERED_LIGHT[2])
    scene.AddNode(preset)
    display = getattr(slicer, rendering_class)()
    display.SetName(f"{ctpa.GetName()} volume rendering")
    display.SetVisibility(False)
    scene.AddNode(display)
    display.SetAndObserveVolumePropertyNodeID(preset.GetID())
    ctpa.AddAndObserveDisplayNodeID(display.GetID())
