"""Adds the nodes of a result to a scene, and removes them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer
import vtk

from xray2ctpa_core.constants import SYNTHETIC
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.display import (
    DIFFERENCE_COLOR_TAG,
    GRADCAM_COLOR_TAG,
    GRADCAM_LABELS,
    RENDERING_CLASS,
    display_result,
    is_used,
    rendering_display,
)
from xray2ctpa_core.mrml.radiograph import lay_on_radiograph, radiograph_in
from xray2ctpa_core.mrml.record import read_record, record_attributes, record_rows
from xray2ctpa_core.mrml.result import REFERENCES, ResultNodes, put_beside, refer
from xray2ctpa_core.wording import unreliable

#: Characters of a name that Slicer leaves as they are in the files of a bundle, which then cannot be opened.
_NOT_IN_XML = re.compile(r'[<>&"\x00-\x1f]')


def load_result(
    folder: Path,
    scene: Any = None,
    radiograph: Any = None,
    attributes: Mapping[str, str] | None = None,
    rendering_class: str = RENDERING_CLASS,
) -> ResultNodes:
    """Adds the result in ``folder`` to ``scene``: volumes, table, volume rendering, subject-hierarchy folder;
    the Grad-CAM of a second opinion is laid onto ``radiograph``.

    Every node's name contains SYNTHETIC and the radiograph's name, and every node has ATTRIBUTES, with
    values as text, and as description the notice and, if so, why the PE scores mean nothing. The folder is
    beside the radiograph: in its study, if it has one.

    Args:
        folder: output of ``xray2ctpa generate``.
        scene: vtkMRMLScene; ``slicer.mrmlScene`` if None.
        radiograph: the radiograph's node in the scene; the CTPA then refers to it.
        attributes: further attributes of every node.
        rendering_class: of the volume rendering's display node.

    Raises:
        InputError: the folder is not a complete result; the scene is unchanged then.
    """
    folder = Path(folder)
    scene = slicer.mrmlScene if scene is None else scene
    record = read_record(folder)
    texts = {**record_attributes(record, folder), **(attributes or {})}
    description = " ".join(filter(None, (record["notice"], unreliable(record["pe"]))))
    has_spread = (folder / "spread.nii.gz").exists()
    before = _node_ids(scene)
    source = _NOT_IN_XML.sub("_", radiograph.GetName() if radiograph is not None else record["input"]["name"])

    def add(class_name: str, title: str) -> Any:
        node = scene.AddNewNodeByClass(class_name, f"{SYNTHETIC} {title} ({source})")
        for name, value in texts.items():
            node.SetAttribute(name, value)
        node.SetDescription(description)
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
        drawn = None
        if (folder / "radiograph-gradcam.nii.gz").exists():
            drawn = add_volume(
                "vtkMRMLScalarVolumeNode", "radiograph-gradcam.nii.gz", "Grad-CAM on the radiograph"
            )
            if radiograph is not None:
                _, *shape = slicer.util.arrayFromVolume(drawn).shape
                lay_on_radiograph(drawn, radiograph, radiograph_in(folder / "preview.png", shape))
        table = add("vtkMRMLTableNode", "numbers")
        _fill_table(table, record)
        nodes = ResultNodes(ctpa, gradcam, label, spread, table, record, drawn)
        refer(nodes, radiograph)
        display_result(nodes, scene, rendering_class)
        _gather_in_folder(nodes, scene, radiograph, source)
    except BaseException:
        for identifier in _node_ids(scene) - before:
            scene.RemoveNode(scene.GetNodeByID(identifier))
        raise
    return nodes


def add_segmentation(nodes: ResultNodes) -> ResultNodes:
    """Adds the Grad-CAM's levels as a segmentation: one segment for each existing level, with its name and
    colour.

    Returns:
        The result with its segmentation; an existing one is kept.
    """
    if nodes.segmentation is not None:
        return nodes
    scene = nodes.ctpa.GetScene()
    name = nodes.gradcam_label.GetName().replace("label", "segmentation")
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    for attribute in nodes.gradcam_label.GetAttributeNames():
        segmentation.SetAttribute(attribute, nodes.gradcam_label.GetAttribute(attribute))
    segmentation.SetDescription(nodes.gradcam_label.GetDescription())
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(nodes.ctpa)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(
        nodes.gradcam_label, segmentation
    )
    colours, segments = dict(GRADCAM_LABELS), segmentation.GetSegmentation()
    for number in range(segments.GetNumberOfSegments()):
        segment = segments.GetNthSegment(number)  # named after the colour of its value
        segment.SetColor(*colours[segment.GetName()][:3])
        segment.SetName(f"{SYNTHETIC} Grad-CAM {segment.GetName()}")
    nodes.ctpa.SetNodeReferenceID(REFERENCES["segmentation"], segmentation.GetID())
    put_beside(segmentation, nodes.ctpa)
    return replace(nodes, segmentation=segmentation)


def remove_result(nodes: ResultNodes) -> None:
    """Removes the result's nodes from the scene, and folder and colours if nothing else uses them."""
    scene = nodes.ctpa.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes.ctpa))
    rendering = rendering_display(nodes)
    if rendering is not None and rendering.GetVolumePropertyNode() is not None:
        scene.RemoveNode(rendering.GetVolumePropertyNode())
    for node in nodes.all():
        remove_with_displays(node)
    for tag in (GRADCAM_COLOR_TAG, DIFFERENCE_COLOR_TAG):
        colours = scene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
        if colours is not None and not is_used(colours):
            scene.RemoveNode(colours)
    if folder != hierarchy.GetSceneItemID() and hierarchy.GetNumberOfItemChildren(folder) == 0:
        hierarchy.RemoveItem(folder)


def remove_with_displays(node: Any) -> None:
    """Removes a node, its display nodes and its subject-hierarchy item from their scene.

    The node goes first, because slice views give a volume that they show a new display in the place of a
    removed one.
    """
    scene = node.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(node)
    parent = hierarchy.GetItemParent(item) if item else 0
    count = getattr(node, "GetNumberOfDisplayNodes", int)()
    displays = [node.GetNthDisplayNode(number) for number in range(count)]
    scene.RemoveNode(node)
    for display in displays:
        if display is not None and display.GetScene() is scene:
            scene.RemoveNode(display)
    if parent and hierarchy.GetItemParent(item) == parent:  # the application has removed it with its node
        hierarchy.RemoveItem(item, False, False)


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
    """Raises InputError unless both volumes have the same grid."""
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
    """Fills two columns of text with one row for every value of result.json: its path, and the value."""
    columns = vtk.vtkStringArray(), vtk.vtkStringArray()
    for column, name in zip(columns, ("Quantity", "Value"), strict=True):
        column.SetName(name)
    for quantity, value in record_rows(record):
        columns[0].InsertNextValue(quantity)
        columns[1].InsertNextValue(value)
    for column in columns:
        table.AddColumn(column)


def _gather_in_folder(nodes: ResultNodes, scene: Any, radiograph: Any, source: str) -> None:
    """Moves the nodes of the result into one subject-hierarchy folder, in the radiograph's study."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    name = scene.GenerateUniqueName(f"{SYNTHETIC} X-ray2CTPA ({source})")
    item = hierarchy.GetItemByDataNode(radiograph) if radiograph is not None else 0
    parent = hierarchy.GetItemParent(item) if item else 0
    folder = hierarchy.CreateFolderItem(parent or hierarchy.GetSceneItemID(), name)
    for node in nodes.all():
        # In the application, an item already exists outside the folder.
        hierarchy.SetItemParent(hierarchy.CreateItem(folder, node), folder)
