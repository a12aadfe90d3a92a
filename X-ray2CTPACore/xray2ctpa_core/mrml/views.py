"""The layouts for a result: the radiograph, three linked planes and the 3D view."""

from typing import Any

import slicer
import vtk

from xray2ctpa_core.constants import GRADCAM_LABEL_THRESHOLDS
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.display import restore_displays, show_rendering
from xray2ctpa_core.mrml.result import RADIOGRAPH_REFERENCE, ResultNodes

RADIOGRAPH_VIEW = "XRay2CTPARadiograph"
PLANE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
#: The radiograph's view has a group of its own, so that linked planes do not change it.
RADIOGRAPH_VIEW_GROUP = 1
#: What can lie over a view, by the name of its node in a result; "" for nothing.
OVERLAYS = ("gradcam", "gradcam_label", "spread", "radiograph_gradcam", "")
LAYOUT_ID = 24616
COMPARISON_LAYOUT_ID = 24617
_COLOURS = {"Red": "#F34A33", "Green": "#6EB04B", "Yellow": "#EDD54C"}
_SLICE_VIEW = """<view class="vtkMRMLSliceNode" singletontag="{tag}">
<property name="orientation" action="default">{orientation}</property>
<property name="viewlabel" action="default">{label}</property>
<property name="viewcolor" action="default">{colour}</property>
<property name="viewgroup" action="default">{group}</property></view>"""
_3D_VIEW = """<view class="vtkMRMLViewNode" singletontag="1">
<property name="viewlabel" action="default">1</property></view>"""


def layout_description() -> str:
    """The layout as XML: the radiograph on the left, three planes and the 3D view in a square beside it."""
    radiograph = _SLICE_VIEW.format(
        tag=RADIOGRAPH_VIEW, orientation="Axial", label="X", colour="#8C8C8C", group=RADIOGRAPH_VIEW_GROUP
    )
    red, green, yellow = (
        _SLICE_VIEW.format(tag=tag, orientation=orientation, label=tag[0], colour=_COLOURS[tag], group=0)
        for tag, orientation in PLANE_VIEWS.items()
    )
    upper = f"<layout type='horizontal'><item>{red}</item><item>{_3D_VIEW}</item></layout>"
    lower = f"<layout type='horizontal'><item>{green}</item><item>{yellow}</item></layout>"
    planes = f"<layout type='vertical'><item>{upper}</item><item>{lower}</item></layout>"
    return (
        f"<layout type='horizontal' split='true'><item splitSize='340'>{radiograph}</item>"
        f"<item splitSize='660'>{planes}</item></layout>"
    )


def comparison_layout_description() -> str:
    """The layout as XML: one column for each plane, with generated, true and difference from top to
    bottom."""
    columns = []
    for tag, orientation in PLANE_VIEWS.items():
        rows = [
            _SLICE_VIEW.format(
                tag=f"{tag}{kind}", orientation=orientation, label=label, colour=_COLOURS[tag], group=0
            )
            for kind, label in (("", tag[0]), ("Truth", "T"), ("Difference", "D"))
        ]
        items = "".join(f"<item>{row}</item>" for row in rows)
        columns.append(f"<item><layout type='vertical'>{items}</layout></item>")
    return f"<layout type='horizontal'>{''.join(columns)}</layout>"


def register_layouts(scene: Any) -> None:
    """Registers this module's layouts without changing the view arrangement.

    A scene saves only the number of its layout; if the layout is not registered, the scene opens without
    views. Raises InputError if the scene has no layout node.
    """
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout is None:
        raise InputError("Expected a scene with a layout node, got one without.", "Start the layout logic.")
    for number, description in (
        (LAYOUT_ID, layout_description()),
        (COMPARISON_LAYOUT_ID, comparison_layout_description()),
    ):
        if layout.IsLayoutDescription(number):
            layout.SetLayoutDescription(number, description)
        else:
            layout.AddLayoutDescription(number, description)


def use_layout(scene: Any, layout_id: int = LAYOUT_ID) -> None:
    """Changes the scene's view arrangement to a layout of this module; needs the scene's layout node."""
    register_layouts(scene)
    scene.GetFirstNodeByClass("vtkMRMLLayoutNode").SetViewArrangement(layout_id)


def show_result(
    nodes: ResultNodes,
    application_logic: Any,
    radiograph: Any = None,
    evidence_opacity: float = 0.5,
    layout_id: int = LAYOUT_ID,
) -> None:
    """Shows a result beside its radiograph: planes centred and linked, with the Grad-CAM as overlay.

    Args:
        nodes: the result.
        application_logic: vtkMRMLApplicationLogic that knows the slice views.
        radiograph: the radiograph's node; None takes the one to which the CTPA refers, if it still exists.
        evidence_opacity: 0..1, of the Grad-CAM.
        layout_id: the layout that holds the planes.
    """
    use_layout(nodes.ctpa.GetScene(), layout_id)
    restore_displays(nodes)
    radiograph = radiograph or nodes.ctpa.GetNodeReference(RADIOGRAPH_REFERENCE)
    for name, orientation in PLANE_VIEWS.items():
        logic = application_logic.GetSliceLogicByLayoutName(name)
        if logic is not None:
            composite = logic.GetSliceCompositeNode()
            composite.SetLinkedControl(False)  # otherwise every view reacts to the change of each
            logic.GetSliceNode().SetOrientation(orientation)
            composite.SetBackgroundVolumeID(nodes.ctpa.GetID())
            composite.SetForegroundVolumeID(nodes.gradcam.GetID())
            composite.SetLabelVolumeID(None)
            composite.SetForegroundOpacity(evidence_opacity)
            logic.FitSliceToBackground()
    for composite in _plane_composites(nodes, application_logic):
        composite.SetLinkedControl(True)
    logic = application_logic.GetSliceLogicByLayoutName(RADIOGRAPH_VIEW)
    if logic is not None:
        show_radiograph(logic, radiograph)
    show_rendering(nodes, True)


def show_overlay(
    nodes: ResultNodes, application_logic: Any, overlay: str = "gradcam", opacity: float = 0.5
) -> None:
    """Sets the overlay of the planes that show the CTPA, or of the view that shows its radiograph.

    Args:
        overlay: of OVERLAYS; "" and one that the result lacks are none.
        opacity: 0..1.
    """
    if overlay not in OVERLAYS:
        raise InputError(
            f"Expected one of {', '.join(filter(None, OVERLAYS))} or none, got the overlay {overlay!r}."
        )
    restore_displays(nodes)
    _show_on_radiograph(nodes, application_logic, overlay == "radiograph_gradcam", opacity)
    if overlay == "radiograph_gradcam":
        overlay = ""
    node = getattr(nodes, overlay) if overlay else None
    identifier = node.GetID() if node is not None else None
    is_label = overlay == "gradcam_label"
    for composite in _plane_composites(nodes, application_logic):
        composite.SetForegroundVolumeID(None if is_label else identifier)
        composite.SetLabelVolumeID(identifier if is_label else None)
        composite.SetForegroundOpacity(opacity)
        composite.SetLabelOpacity(opacity)


def _show_on_radiograph(nodes: ResultNodes, application_logic: Any, shown: bool, opacity: float) -> None:
    """Shows or hides the second opinion's Grad-CAM where the result's radiograph is shown."""
    logic = application_logic.GetSliceLogicByLayoutName(RADIOGRAPH_VIEW)
    radiograph, drawn = nodes.ctpa.GetNodeReference(RADIOGRAPH_REFERENCE), nodes.radiograph_gradcam
    if logic is None or radiograph is None or drawn is None:
        return
    composite = logic.GetSliceCompositeNode()
    if composite.GetBackgroundVolumeID() == radiograph.GetID():
        composite.SetForegroundVolumeID(drawn.GetID() if shown else None)
        composite.SetForegroundOpacity(opacity)


def hottest_position(nodes: ResultNodes) -> tuple[float, float, float] | None:
    """World position (RAS in mm) of the strongest Grad-CAM evidence; None if none reaches the label's first
    level."""
    heat = slicer.util.arrayFromVolume(nodes.gradcam)
    flat = int(heat.argmax())
    _, rows, columns = heat.shape
    k, rest = divmod(flat, rows * columns)
    j, i = divmod(rest, columns)
    if heat[k, j, i] < GRADCAM_LABEL_THRESHOLDS[0]:
        return None
    matrix, world = vtk.vtkMatrix4x4(), [0.0, 0.0, 0.0]
    nodes.gradcam.GetIJKToRASMatrix(matrix)
    local = matrix.MultiplyPoint((float(i), float(j), float(k), 1.0))[:3]
    nodes.gradcam.TransformPointToWorld(local, world)
    return world[0], world[1], world[2]


def go_to_hottest(nodes: ResultNodes) -> bool:
    """Moves the three planes to the strongest evidence; returns False if there is none."""
    position = hottest_position(nodes)
    if position is None:
        return False
    group = 0
    slicer.vtkMRMLSliceNode.JumpAllSlices(
        nodes.ctpa.GetScene(), *position, slicer.vtkMRMLSliceNode.OffsetJumpSlice, group
    )
    return True


def _plane_composites(nodes: ResultNodes, application_logic: Any) -> list[Any]:
    """Composite nodes of the three planes, of those that show the CTPA."""
    logics = [application_logic.GetSliceLogicByLayoutName(name) for name in PLANE_VIEWS]
    composites = [logic.GetSliceCompositeNode() for logic in logics if logic is not None]
    return [c for c in composites if c.GetBackgroundVolumeID() == nodes.ctpa.GetID()]


def show_radiograph(logic: Any, radiograph: Any) -> None:
    """Shows the radiograph, upright, in a view that is not linked to others; without a radiograph the view
    is empty."""
    composite = logic.GetSliceCompositeNode()
    composite.SetLinkedControl(False)
    composite.SetForegroundVolumeID(None)
    composite.SetLabelVolumeID(None)
    composite.SetBackgroundVolumeID(radiograph.GetID() if radiograph is not None else None)
    if radiograph is not None:
        logic.GetSliceNode().SetOrientation(_radiograph_orientation(radiograph))
        logic.GetSliceNode().RotateToVolumePlane(radiograph)
        logic.FitSliceToBackground()


def _radiograph_orientation(radiograph: Any) -> str:
    """The orientation, in radiological convention, nearest to the only slice of ``radiograph``."""
    matrix, dimensions = vtk.vtkMatrix4x4(), radiograph.GetImageData().GetDimensions()
    radiograph.GetIJKToRASDirectionMatrix(matrix)
    across = dimensions.index(1) if 1 in dimensions else 2
    normal = [abs(matrix.GetElement(axis, across)) for axis in range(3)]
    return ("Sagittal", "Coronal", "Axial")[normal.index(max(normal))]
