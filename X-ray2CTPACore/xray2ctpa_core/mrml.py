"""A result folder becomes MRML nodes, in Slicer and, through slicer-core, outside it.

Imports slicer and vtk only (no Qt, no torch): the Slicer module and the page of ``xray2ctpa view``
show the same nodes. Files are NIfTI; Slicer's own reader turns them into RAS (IJKToRAS, mm). The nodes keep
no link to the files, which may lie in a temporary folder.
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


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of one result, all in the scene and on one grid.

    Attributes:
        ctpa: vtkMRMLScalarVolumeNode, HU.
        gradcam: vtkMRMLScalarVolumeNode, 0..1, shown from the lowest label's threshold upwards.
        gradcam_label: vtkMRMLLabelMapVolumeNode, 0 and 1..3 = low, medium, high.
        spread: vtkMRMLScalarVolumeNode, standard deviation in HU, or None for a single sample.
        record: result.json as it stands in the folder.
    """

    ctpa: Any
    gradcam: Any
    gradcam_label: Any
    spread: Any | None
    record: Mapping[str, Any]


def load_result(folder: Path, scene: Any = None) -> ResultNodes:
    """Adds the volumes of the result in ``folder`` to ``scene``.

    Every node's name holds SYNTHETIC and every node carries ATTRIBUTES, the values as text.

    Args:
        folder: what ``xray2ctpa generate`` wrote.
        scene: vtkMRMLScene; ``slicer.mrmlScene`` if None.

    Raises:
        InputError: if the folder is not a complete result; the scene is then as it was.
    """
    folder = Path(folder)
    scene = slicer.mrmlScene if scene is None else scene
    record = read_record(folder)
    attributes = _attributes(record, folder)
    has_spread = (folder / "spread.nii.gz").exists()
    added: list[Any] = []

    def add(class_name: str, file_name: str, title: str) -> Any:
        node = scene.AddNewNodeByClass(class_name, f"{SYNTHETIC} {title} ({record['input']['name']})")
        added.append(node)
        _read_voxels(node, folder / file_name)
        for name, value in attributes.items():
            node.SetAttribute(name, value)
        node.CreateDefaultDisplayNodes()
        return node

    try:
        ctpa = add("vtkMRMLScalarVolumeNode", "ctpa.nii.gz", "CTPA")
        gradcam = add("vtkMRMLScalarVolumeNode", "gradcam.nii.gz", "Grad-CAM")
        label = add("vtkMRMLLabelMapVolumeNode", "gradcam-label.nii.gz", "Grad-CAM label")
        spread = add("vtkMRMLScalarVolumeNode", "spread.nii.gz", "spread") if has_spread else None
        for node in added[1:]:
            _require_same_grid(node, ctpa)
    except BaseException:
        for node in added:
            _remove_with_display(node, scene)
        raise
    _show_between(ctpa, CTPA_DISPLAY_WINDOW)
    _show_between(gradcam, (0.5, 1.0), color_id="vtkMRMLColorTableNodeIron")
    gradcam.GetDisplayNode().SetThreshold(GRADCAM_LABEL_THRESHOLDS[0], 1.0)
    gradcam.GetDisplayNode().SetApplyThreshold(True)
    label.GetDisplayNode().SetAndObserveColorNodeID(_gradcam_color_node(scene).GetID())
    if spread is not None:
        _show_between(spread, SPREAD_DISPLAY_WINDOW)
    return ResultNodes(ctpa, gradcam, label, spread, record)


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


def _remove_with_display(node: Any, scene: Any) -> None:
    display = node.GetDisplayNode()
    if display is not None:
        scene.RemoveNode(display)
    scene.RemoveNode(node)
