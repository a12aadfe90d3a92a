"""A result folder becomes MRML nodes and a layout of views, in Slicer and, through slicer-core, outside it.

Imports slicer and vtk only (no Qt, no torch): the Slicer module and the page of ``xray2ctpa view``
show the same nodes. Files are NIfTI; Slicer's own reader turns them into RAS (IJKToRAS, mm). The nodes keep
no link to the files, which may lie in a temporary folder. In this order: a result's nodes and where they are
found again, how they are displayed, the views they are shown in.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import vtk

from xray2ctpa_core.constants import (
    CTPA_DISPLAY_WINDOW,
    GRADCAM_LABEL_THRESHOLDS,
    LUNG_DISPLAY_WINDOW,
    RESULT_SCHEMA_VERSION,
    SYNTHETIC,
)
from xray2ctpa_core.errors import InputError

#: Attribute of every node of a result <- where its value stands in result.json.
ATTRIBUTES = {
    "XRay2CTPA.Notice": ("notice",),
    "XRay2CTPA.Input": ("input", "name"),
    "XRay2CTPA.InputSHA256": ("input", "sha256"),
    "XRay2CTPA.Bundle": ("bundle", "name"),
    "XRay2CTPA.BundleVersion": ("bundle", "version"),
    "XRay2CTPA.BundleSHA256": ("bundle", "sha256"),
    "XRay2CTPA.BundleIsDemonstration": ("bundle", "is_demonstration"),
    "XRay2CTPA.Seed": ("sampling", "seed"),
    "XRay2CTPA.Samples": ("sampling", "samples"),
    "XRay2CTPA.Steps": ("sampling", "steps"),
    "XRay2CTPA.Scheduler": ("sampling", "scheduler"),
    "XRay2CTPA.Device": ("sampling", "device"),
    "XRay2CTPA.Precision": ("sampling", "precision"),
    "XRay2CTPA.PEProbability": ("pe", "probability"),
    "XRay2CTPA.PEThreshold": ("pe", "threshold"),
    "XRay2CTPA.PECalibrated": ("pe", "calibrated"),
}
#: Name and colour (RGB, opacity) of the Grad-CAM label map's values 0..3.
GRADCAM_LABELS = (
    ("background", (0.0, 0.0, 0.0, 0.0)),
    ("low", (0.99, 0.75, 0.20, 0.35)),
    ("medium", (0.95, 0.40, 0.13, 0.55)),
    ("high", (0.75, 0.05, 0.15, 0.75)),
)
GRADCAM_COLOR_TAG = "XRay2CTPAGradCAM"
#: Display window (centre, width) in HU of the standard deviation over samples.
SPREAD_DISPLAY_WINDOW = (100.0, 200.0)
#: Windows (centre, width) in HU that a CTPA can be shown in, by name.
WINDOWS = {"CTPA": CTPA_DISPLAY_WINDOW, "lung": LUNG_DISPLAY_WINDOW}
#: Attribute of the CTPA that holds all of result.json, and its references to what belongs to it.
RECORD_ATTRIBUTE = "XRay2CTPA.Record"
REFERENCES = {
    "gradcam": "XRay2CTPA.GradCAM",
    "gradcam_label": "XRay2CTPA.GradCAMLabel",
    "spread": "XRay2CTPA.Spread",
    "table": "XRay2CTPA.Table",
}
#: Reference of the CTPA to the radiograph's node it was made from.
FILM_REFERENCE = "XRay2CTPA.Film"

# Volume rendering of a CTPA: lungs as a faint veil, contrast-filled vessels and bone solid.
RENDERED_OPACITY = ((-1000.0, 0.0), (-850.0, 0.0), (-700.0, 0.015), (-400.0, 0.0), (100.0, 0.0),
                    (220.0, 0.25), (500.0, 0.6), (900.0, 0.85))  # fmt: skip
RENDERED_COLOURS = ((-1000.0, 0.25, 0.3, 0.4), (-500.0, 0.55, 0.65, 0.75), (60.0, 0.75, 0.35, 0.3),
                    (250.0, 0.9, 0.5, 0.4), (500.0, 0.98, 0.9, 0.8), (900.0, 1.0, 1.0, 0.97))  # fmt: skip

FILM_VIEW = "XRay2CTPAFilm"
PLANE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
#: The film's view stands in a group of its own, so that linked planes leave it alone.
FILM_VIEW_GROUP = 1
LAYOUT_ID = 24616
_SLICE_VIEW = """<view class="vtkMRMLSliceNode" singletontag="{tag}">
<property name="orientation" action="default">{orientation}</property>
<property name="viewlabel" action="default">{label}</property>
<property name="viewcolor" action="default">{colour}</property>
<property name="viewgroup" action="default">{group}</property></view>"""
_3D_VIEW = """<view class="vtkMRMLViewNode" singletontag="1">
<property name="viewlabel" action="default">1</property></view>"""


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of one result, all in the scene; the volumes on one grid.

    Attributes:
        ctpa: vtkMRMLScalarVolumeNode, HU; refers to the others.
        gradcam: vtkMRMLScalarVolumeNode, 0..1, shown from the lowest label's threshold upwards.
        gradcam_label: vtkMRMLLabelMapVolumeNode, 0 and 1..3 = low, medium, high.
        spread: vtkMRMLScalarVolumeNode, standard deviation in HU, or None for a single sample.
        table: vtkMRMLTableNode, the case's numbers as text.
        record: result.json as it stands in the folder.
    """

    ctpa: Any
    gradcam: Any
    gradcam_label: Any
    spread: Any | None
    table: Any
    record: Mapping[str, Any]

    def all(self) -> list[Any]:
        """Every node that there is, the CTPA first."""
        nodes = (self.ctpa, self.gradcam, self.gradcam_label, self.spread, self.table)
        return [node for node in nodes if node is not None]


def load_result(
    folder: Path, scene: Any = None, film: Any = None, attributes: Mapping[str, str] | None = None
) -> ResultNodes:
    """Adds the result in ``folder`` to ``scene``: volumes, table, volume rendering, subject-hierarchy folder.

    Every node's name holds SYNTHETIC and every node carries ATTRIBUTES, the values as text.

    Args:
        folder: what ``xray2ctpa generate`` wrote.
        scene: vtkMRMLScene; ``slicer.mrmlScene`` if None.
        film: the radiograph's node in the scene; the CTPA then refers to it.
        attributes: further attributes of every node.

    Raises:
        InputError: if the folder is not a complete result; the scene is then as it was.
    """
    folder = Path(folder)
    scene = slicer.mrmlScene if scene is None else scene
    record = read_record(folder)
    texts = {**_attributes(record, folder), **(attributes or {})}
    has_spread = (folder / "spread.nii.gz").exists()
    before = _node_ids(scene)

    def add(class_name: str, title: str) -> Any:
        node = scene.AddNewNodeByClass(class_name, f"{SYNTHETIC} {title} ({record['input']['name']})")
        for name, value in texts.items():
            node.SetAttribute(name, value)
        return node

    def add_volume(class_name: str, file_name: str, title: str) -> Any:
        node = add(class_name, title)
        _read_voxels(node, folder / file_name)
        node.CreateDefaultDisplayNodes()
        return node

    try:
        ctpa = add_volume("vtkMRMLScalarVolumeNode", "ctpa.nii.gz", "CTPA")
        gradcam = add_volume("vtkMRMLScalarVolumeNode", "gradcam.nii.gz", "Grad-CAM")
        label = add_volume("vtkMRMLLabelMapVolumeNode", "gradcam-label.nii.gz", "Grad-CAM label")
        spread = add_volume("vtkMRMLScalarVolumeNode", "spread.nii.gz", "spread") if has_spread else None
        for node in (gradcam, label, *([spread] if spread else [])):
            _require_same_grid(node, ctpa)
        table = add("vtkMRMLTableNode", "numbers")
        _fill_table(table, record)
        nodes = ResultNodes(ctpa, gradcam, label, spread, table, record)
        _refer(nodes, film)
        _display(nodes, scene)
        _gather_in_folder(nodes, scene)
    except BaseException:
        for identifier in _node_ids(scene) - before:
            scene.RemoveNode(scene.GetNodeByID(identifier))
        raise
    return nodes


def result_of(node: Any) -> ResultNodes | None:
    """The result that a CTPA node in a scene is part of, also after saving and loading; None if of none."""
    text = node.GetAttribute(RECORD_ATTRIBUTE) if node is not None else None
    if text is None:
        return None
    parts = {name: node.GetNodeReference(role) for name, role in REFERENCES.items()}
    if parts["gradcam"] is None or parts["gradcam_label"] is None:
        return None
    return ResultNodes(ctpa=node, **parts, record=json.loads(text))


def remove_result(nodes: ResultNodes) -> None:
    """Takes the result's nodes out of the scene; folder and colours too, where nothing else needs them."""
    scene = nodes.ctpa.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes.ctpa))
    rendering = _rendering_display(nodes)
    if rendering is not None and rendering.GetVolumePropertyNode() is not None:
        scene.RemoveNode(rendering.GetVolumePropertyNode())
    for node in nodes.all():
        displays = getattr(node, "GetNumberOfDisplayNodes", int)()
        for display in [node.GetNthDisplayNode(number) for number in range(displays)]:
            scene.RemoveNode(display)
        item = hierarchy.GetItemByDataNode(node)
        scene.RemoveNode(node)
        if hierarchy.GetItemParent(item) == folder:  # the application has removed it with its node
            hierarchy.RemoveItem(item, False, False)
    colours = scene.GetSingletonNode(GRADCAM_COLOR_TAG, "vtkMRMLColorTableNode")
    if colours is not None and not _colours_a_label_map(colours):
        scene.RemoveNode(colours)
    if folder != hierarchy.GetSceneItemID() and hierarchy.GetNumberOfItemChildren(folder) == 0:
        hierarchy.RemoveItem(folder)


def sentences(record: Mapping[str, Any]) -> list[str]:
    """What a result says, for people: the score first, then what it means and where it comes from."""
    pe, bundle, sampling = record["pe"], record["bundle"], record["sampling"]
    side = "at or above" if pe["probability"] >= pe["threshold"] else "below"
    calibrated = "calibrated" if pe["calibrated"] else "not calibrated"
    lines = [
        f"Model's PE score {pe['probability']:.2f} ({calibrated}), {side} its operating point "
        f"{pe['threshold']:.2f}."
    ]
    samples = pe.get("per_sample", [])
    if len(samples) > 1:
        lines.append(
            f"Over {len(samples)} samples the score runs from {min(samples):.2f} to {max(samples):.2f}."
        )
    lines.append("The score rates this generated volume, not the patient: a hypothesis, never a diagnosis.")
    kind = " (a demonstration)" if bundle["is_demonstration"] else ""
    trained = f", trained on {bundle['trained_on']}" if "trained_on" in bundle else ""
    lines.append(f"Bundle {bundle['name']} {bundle['version']}{kind}{trained}.")
    lines.append(f"{sampling['scheduler']}, {sampling['steps']} steps, seed {sampling['seed']}.")
    return lines + list(record.get("gate", {}).get("warnings", []))


def read_record(folder: Path) -> dict[str, Any]:
    """The object in ``folder``/result.json; raises InputError if there is none or of another schema."""
    path = Path(folder) / "result.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected a result folder with result.json, got {folder}: {error}.",
            "Name a folder that `xray2ctpa generate` wrote.",
        ) from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != RESULT_SCHEMA_VERSION:
        raise InputError(
            f"Expected schema_version {RESULT_SCHEMA_VERSION!r} in {path}, got {version!r}.",
            "Generate the result again with this version.",
        )
    return record


def _attributes(record: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The node attributes of a result, as text."""
    attributes = {}
    for name, keys in ATTRIBUTES.items():
        value: Any = record
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise InputError(
                    f"Expected {'.'.join(keys)} in {folder / 'result.json'}, got none.",
                    "Generate the result again.",
                )
            value = value[key]
        attributes[name] = value if isinstance(value, str) else json.dumps(value)
    return attributes


def _read_voxels(node: Any, path: Path) -> None:
    """Fills ``node`` from a NIfTI file: voxels and IJKToRAS; raises InputError if it cannot be read."""
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not path.is_file() or not storage.ReadData(node):
        raise InputError(
            f"Expected a readable volume {path}, got {'a damaged one' if path.exists() else 'none'}.",
            "Generate the result again.",
        )


def _require_same_grid(node: Any, reference: Any) -> None:
    """Raises InputError unless both volumes have the same voxels in the same places."""
    same_size = node.GetImageData().GetDimensions() == reference.GetImageData().GetDimensions()
    difference = max(
        abs(a - b) for a, b in zip(_ijk_to_ras_elements(node), _ijk_to_ras_elements(reference), strict=True)
    )
    if not same_size or difference > 1e-3:
        raise InputError(
            f"Expected all volumes of a result on one grid, got another one for {node.GetName()!r}.",
            "Generate the result again.",
        )


def _ijk_to_ras_elements(node: Any) -> list[float]:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return [matrix.GetElement(row, column) for row in range(4) for column in range(4)]


def _node_ids(scene: Any) -> set[str]:
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}


def _fill_table(table: Any, record: Mapping[str, Any]) -> None:
    """Two columns of text, a row for every number of result.json: its path there, and its value."""
    columns = vtk.vtkStringArray(), vtk.vtkStringArray()
    for column, name in zip(columns, ("Quantity", "Value"), strict=True):
        column.SetName(name)
    for quantity, value in _rows(record):
        columns[0].InsertNextValue(quantity)
        columns[1].InsertNextValue(value)
    for column in columns:
        table.AddColumn(column)


def _rows(value: Any, path: str = "") -> list[tuple[str, str]]:
    """(path, text) of every leaf of a JSON value; a list is one leaf."""
    if isinstance(value, dict):
        return [row for key, part in value.items() for row in _rows(part, f"{path}.{key}" if path else key)]
    return [(path, value if isinstance(value, str) else json.dumps(value))]


def _refer(nodes: ResultNodes, film: Any) -> None:
    """The CTPA refers to what belongs to it, so that it is found again in a saved scene."""
    nodes.ctpa.SetAttribute(RECORD_ATTRIBUTE, json.dumps(nodes.record))
    for name, role in REFERENCES.items():
        node = getattr(nodes, name)
        nodes.ctpa.SetNodeReferenceID(role, node.GetID() if node is not None else None)
    if film is not None:
        nodes.ctpa.SetNodeReferenceID(FILM_REFERENCE, film.GetID())


def _gather_in_folder(nodes: ResultNodes, scene: Any) -> None:
    """One subject-hierarchy folder for the nodes of the result."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    name = scene.GenerateUniqueName(f"{SYNTHETIC} X-ray2CTPA ({nodes.record['input']['name']})")
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)
    for node in nodes.all():
        # In the application an item exists already, outside the folder.
        hierarchy.SetItemParent(hierarchy.CreateItem(folder, node), folder)


# --- Display --------------------------------------------------------------------------------------


def show_window(nodes: ResultNodes, name: str) -> None:
    """Shows the CTPA in the window ``name`` of WINDOWS; raises InputError for another name."""
    if name not in WINDOWS:
        raise InputError(f"Expected one of {', '.join(WINDOWS)}, got the window {name!r}.")
    _show_between(nodes.ctpa, WINDOWS[name])


def show_evidence_from(nodes: ResultNodes, threshold: float) -> None:
    """Shows the Grad-CAM where it is at least ``threshold`` (0..1)."""
    nodes.gradcam.GetDisplayNode().SetThreshold(threshold, 1.0)


def show_rendering(nodes: ResultNodes, visible: bool) -> None:
    """Turns the volume rendering in the 3D view on or off."""
    display = _rendering_display(nodes)
    if display is not None:
        display.SetVisibility(visible)


def _display(nodes: ResultNodes, scene: Any) -> None:
    """Fixed windows, colours, and a volume rendering that is off until it is shown."""
    _show_between(nodes.ctpa, CTPA_DISPLAY_WINDOW)
    _show_between(nodes.gradcam, (0.5, 1.0), color_id="vtkMRMLColorTableNodeIron")
    nodes.gradcam.GetDisplayNode().SetThreshold(GRADCAM_LABEL_THRESHOLDS[0], 1.0)
    nodes.gradcam.GetDisplayNode().SetApplyThreshold(True)
    nodes.gradcam_label.GetDisplayNode().SetAndObserveColorNodeID(_gradcam_color_node(scene).GetID())
    _add_legend(nodes.gradcam_label, scene)
    if nodes.spread is not None:
        _show_between(nodes.spread, SPREAD_DISPLAY_WINDOW)
    _add_rendering(nodes.ctpa, scene)


def _show_between(
    node: Any, window: tuple[float, float], color_id: str = "vtkMRMLColorTableNodeGrey"
) -> None:
    """Fixes the display to ``window`` (centre, width) instead of one guessed from the voxels."""
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(color_id)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(window[1], window[0])


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


def _colours_a_label_map(colours: Any) -> bool:
    """Whether a label map of the scene is shown with the colour table."""
    scene, name = colours.GetScene(), "vtkMRMLLabelMapVolumeDisplayNode"
    displays = [scene.GetNthNodeByClass(n, name) for n in range(scene.GetNumberOfNodesByClass(name))]
    return any(display.GetColorNodeID() == colours.GetID() for display in displays)


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


def _add_rendering(ctpa: Any, scene: Any) -> None:
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
    preset.GetVolumeProperty().ShadeOn()
    preset.GetVolumeProperty().SetInterpolationTypeToLinear()
    scene.AddNode(preset)
    display = slicer.vtkMRMLGPURayCastVolumeRenderingDisplayNode()
    display.SetName(f"{ctpa.GetName()} volume rendering")
    display.SetVisibility(False)
    scene.AddNode(display)
    display.SetAndObserveVolumePropertyNodeID(preset.GetID())
    ctpa.AddAndObserveDisplayNodeID(display.GetID())


def _rendering_display(nodes: ResultNodes) -> Any | None:
    """The CTPA's volume rendering, or None where somebody removed it."""
    for number in range(nodes.ctpa.GetNumberOfDisplayNodes()):
        display = nodes.ctpa.GetNthDisplayNode(number)
        if display is not None and display.IsA("vtkMRMLVolumeRenderingDisplayNode"):
            return display
    return None


# --- Views ----------------------------------------------------------------------------------------


def layout_description() -> str:
    """The layout as XML: the radiograph at the left, three planes and the 3D view in a square beside it."""
    film = _SLICE_VIEW.format(
        tag=FILM_VIEW, orientation="Axial", label="X", colour="#8C8C8C", group=FILM_VIEW_GROUP
    )
    colours = {"Red": "#F34A33", "Green": "#6EB04B", "Yellow": "#EDD54C"}
    red, green, yellow = (
        _SLICE_VIEW.format(tag=tag, orientation=orientation, label=tag[0], colour=colours[tag], group=0)
        for tag, orientation in PLANE_VIEWS.items()
    )
    upper = f"<layout type='horizontal'><item>{red}</item><item>{_3D_VIEW}</item></layout>"
    lower = f"<layout type='horizontal'><item>{green}</item><item>{yellow}</item></layout>"
    planes = f"<layout type='vertical'><item>{upper}</item><item>{lower}</item></layout>"
    return (
        f"<layout type='horizontal' split='true'><item splitSize='340'>{film}</item>"
        f"<item splitSize='660'>{planes}</item></layout>"
    )


def use_layout(scene: Any) -> None:
    """Changes the scene's view arrangement to the layout of this module; needs the scene's layout node."""
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout is None:
        raise InputError("Expected a scene with a layout node, got one without.", "Start the layout logic.")
    if layout.IsLayoutDescription(LAYOUT_ID):
        layout.SetLayoutDescription(LAYOUT_ID, layout_description())
    else:
        layout.AddLayoutDescription(LAYOUT_ID, layout_description())
    layout.SetViewArrangement(LAYOUT_ID)


def show_result(
    nodes: ResultNodes, application_logic: Any, film: Any = None, evidence_opacity: float = 0.5
) -> None:
    """Shows a result beside its radiograph: planes centred, linked, with the Grad-CAM laid over them.

    Args:
        nodes: the result.
        application_logic: vtkMRMLApplicationLogic that knows the slice views.
        film: the radiograph's node; None takes the one that the CTPA refers to, if it is still there.
        evidence_opacity: 0..1, of the Grad-CAM.
    """
    use_layout(nodes.ctpa.GetScene())
    film = film or nodes.ctpa.GetNodeReference(FILM_REFERENCE)
    for name, orientation in PLANE_VIEWS.items():
        logic = application_logic.GetSliceLogicByLayoutName(name)
        if logic is not None:
            composite = logic.GetSliceCompositeNode()
            composite.SetLinkedControl(False)  # else every view answers the change of each
            logic.GetSliceNode().SetOrientation(orientation)
            composite.SetBackgroundVolumeID(nodes.ctpa.GetID())
            composite.SetForegroundVolumeID(nodes.gradcam.GetID())
            composite.SetLabelVolumeID(None)
            composite.SetForegroundOpacity(evidence_opacity)
            logic.FitSliceToBackground()
    for composite in _plane_composites(nodes, application_logic):
        composite.SetLinkedControl(True)
    logic = application_logic.GetSliceLogicByLayoutName(FILM_VIEW)
    if logic is not None:
        _show_film(logic, film)
    show_rendering(nodes, True)


def show_overlay(
    nodes: ResultNodes, application_logic: Any, overlay: str = "gradcam", opacity: float = 0.5
) -> None:
    """Lays ``overlay`` over the planes that show the CTPA.

    Args:
        overlay: "gradcam", "gradcam_label", "spread" or "" for none; a spread that there is not is none.
        opacity: 0..1.
    """
    if overlay not in ("", "gradcam", "gradcam_label", "spread"):
        raise InputError(f"Expected gradcam, gradcam_label, spread or none, got the overlay {overlay!r}.")
    node = getattr(nodes, overlay) if overlay else None
    identifier = node.GetID() if node is not None else None
    is_label = overlay == "gradcam_label"
    for composite in _plane_composites(nodes, application_logic):
        composite.SetForegroundVolumeID(None if is_label else identifier)
        composite.SetLabelVolumeID(identifier if is_label else None)
        composite.SetForegroundOpacity(opacity)
        composite.SetLabelOpacity(opacity)


def hottest_position(nodes: ResultNodes) -> tuple[float, float, float] | None:
    """RAS in mm (in the world) of the strongest Grad-CAM evidence; None where there is none."""
    heat = slicer.util.arrayFromVolume(nodes.gradcam)
    flat = int(heat.argmax())
    _, rows, columns = heat.shape
    k, rest = divmod(flat, rows * columns)
    j, i = divmod(rest, columns)
    if not heat[k, j, i] > 0:
        return None
    matrix, world = vtk.vtkMatrix4x4(), [0.0, 0.0, 0.0]
    nodes.gradcam.GetIJKToRASMatrix(matrix)
    local = matrix.MultiplyPoint((float(i), float(j), float(k), 1.0))[:3]
    nodes.gradcam.TransformPointToWorld(local, world)
    return world[0], world[1], world[2]


def go_to_hottest(nodes: ResultNodes) -> bool:
    """Moves the three planes through the strongest evidence; False where there is none to go to."""
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


def _show_film(logic: Any, film: Any) -> None:
    """The radiograph alone, upright, in a view that links to no other; an empty view where it is gone."""
    composite = logic.GetSliceCompositeNode()
    composite.SetLinkedControl(False)
    composite.SetForegroundVolumeID(None)
    composite.SetLabelVolumeID(None)
    composite.SetBackgroundVolumeID(film.GetID() if film is not None else None)
    if film is not None:
        logic.GetSliceNode().SetOrientation(_film_orientation(film))
        logic.GetSliceNode().RotateToVolumePlane(film)
        logic.FitSliceToBackground()


def _film_orientation(film: Any) -> str:
    """The plane, seen as radiologists do, that the one slice of ``film`` lies in (or nearest to)."""
    matrix, dimensions = vtk.vtkMatrix4x4(), film.GetImageData().GetDimensions()
    film.GetIJKToRASDirectionMatrix(matrix)
    across = dimensions.index(1) if 1 in dimensions else 2
    normal = [abs(matrix.GetElement(axis, across)) for axis in range(3)]
    return ("Sagittal", "Coronal", "Axial")[normal.index(max(normal))]
