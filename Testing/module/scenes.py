"""Scenes of Slicer's own MRML (slicer-core) as the application has them, and small results to load."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from xray2ctpa_core.constants import AIR_HU, NOTICE
from xray2ctpa_core.io import result_files
from xray2ctpa_core.io.preview import render_preview
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.pipelines.geometry import before_volume
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume, axial_affine

SHAPE = (16, 24, 20)
EXTENT_MM = (160.0, 240.0, 200.0)  # voxels of 10 mm
#: (k, j, i) of the one bright, hot voxel: superior, anterior, on the patient's left (i runs to the left).
HOT_KJI = (12, 4, 16)
#: By hand: i = 16 lies (16 - 9.5) * 10 = 65 mm to the left of the middle, j = 4 lies 75 mm in front of it and
#: k = 12 lies 45 mm above it; RAS counts right, anterior and superior.
HOT_RAS = (-65.0, 75.0, 45.0)
RECORD = {
    "schema_version": "1.0",
    "input": {"name": "radiograph.png", "sha256": "ab" * 32},
    "gate": {
        "is_frontal_cxr": 0.97,
        "warnings": ["The lungs reach the radiograph's top edge."],
        "forced": False,
    },
    "bundle": {
        "name": "tiny",
        "version": "1.2.3",
        "sha256": "cd" * 32,
        "trained_on": "12 virtual patients",
        "is_demonstration": True,
    },
    "sampling": {
        "scheduler": "dpm++",
        "steps": 7,
        "seed": 42,
        "samples": 2,
        "device": "cpu",
        "precision": "fp32",
        "seconds": {"load": 1.0},
    },
    "pe": {"probability": 0.25, "per_sample": [0.2, 0.3], "threshold": 0.5, "calibrated": False},
    "notice": NOTICE,
}


@dataclass(frozen=True)
class Application:
    """What the application keeps around a scene: its logics."""

    scene: Any
    logic: Any
    layout: Any
    slices: dict[str, Any]

    def show_views(self) -> None:
        """Gives every slice node of the layout a logic and 400 x 400 pixels, as a slice widget does."""
        nodes = self.scene.GetNodesByClass("vtkMRMLSliceNode")
        for node in [nodes.GetItemAsObject(number) for number in range(nodes.GetNumberOfItems())]:
            name = node.GetLayoutName()
            if name not in self.slices:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self.logic)
                logic.SetMRMLScene(self.scene)
                logic.SetSliceNode(node)
                self.slices[name] = logic
                self.logic.GetSliceLogics().AddItem(logic)
                node.SetDimensions(400, 400, 1)
                logic.ResizeSliceNode(400, 400)

    def close(self) -> None:
        for logic in self.slices.values():
            logic.SetMRMLScene(None)
        self.layout.SetMRMLScene(None)
        self.logic.SetMRMLScene(None)


def _register(scene: Any) -> list[Any]:
    """Colour tables and the node classes that modules of the application register."""
    logics = [slicer.vtkMRMLColorLogic(), slicer.vtkSlicerVolumeRenderingLogic()]
    for logic in logics:
        logic.SetMRMLScene(scene)
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    return logics


@contextmanager
def application_scene() -> Iterator[Application]:
    """An empty scene with colour tables, orientation presets, layout and slice logics."""
    scene = slicer.vtkMRMLScene()
    registered = _register(scene)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    logic = slicer.vtkMRMLApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.SetSliceLogics(vtk.vtkCollection())
    layout = slicer.vtkMRMLLayoutLogic()
    layout.SetMRMLScene(scene)
    application = Application(scene, logic, layout, {})
    application.show_views()
    try:
        yield application
    finally:
        application.close()
        for part in registered:
            part.SetMRMLScene(None)
        scene.Clear(1)


#: A sentence as the core writes it into pe.unreliable.
UNLIKE = "This radiograph is unlike those of training: the PE score means nothing for it."


def write_result(folder: Path, samples: int = 2, unreliable: str | None = None) -> Path:
    """A complete result with one bright, hot voxel in air; ``unreliable`` is pe.unreliable of its record."""
    folder.mkdir(parents=True)
    affine = axial_affine(SHAPE, EXTENT_MM)
    ctpa, heat = np.full(SHAPE, AIR_HU, np.float32), np.zeros(SHAPE, np.float32)
    ctpa[HOT_KJI], heat[HOT_KJI] = 700.0, 0.9
    write_volume(Volume(ctpa, affine), folder / "ctpa.nii.gz", np.int16)
    write_volume(Volume(heat, affine), folder / "gradcam.nii.gz", np.float32)
    write_volume(Volume((heat > 0) * 3, affine), folder / "gradcam-label.nii.gz", np.uint8)
    if samples > 1:
        write_volume(Volume(heat * 80, affine), folder / "spread.nii.gz", np.float32)
    record = json.loads(json.dumps(RECORD))
    record["sampling"]["samples"] = samples
    record["pe"]["unreliable"] = unreliable
    record["geometry"] = {
        "shape": list(SHAPE),
        "spacing_mm": [10.0, 10.0, 10.0],
        "origin_lps": affine[:3, 3].tolist(),
        "direction": np.eye(3).tolist(),
    }
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


#: A second opinion as the core writes it.
OPINION = {
    "probability": 0.81, "threshold": 0.5, "positive": True, "calibrated": True,
    "rests_on": "radiograph itself", "gradcam": result_files.RADIOGRAPH_GRADCAM,
}  # fmt: skip


def add_second_opinion(folder: Path, upright: np.ndarray, hot: tuple[slice, slice]) -> Path:
    """Gives a result of ``write_result`` a second opinion whose map (at half the radiograph's pixels) is 1 at
    ``hot`` of the radiograph ``upright``, (H, W) in 0..1 as the model reads it; and its preview."""
    radiograph, frame = Radiograph(upright.astype(np.float32)), FrontalFrame(0, 0, min(upright.shape))
    heat = np.zeros(upright.shape, np.float32)
    heat[hot] = 1.0
    heat = heat[::2, ::2]
    ctpa, gradcam = (read_volume(folder / name) for name in (result_files.CTPA, result_files.GRADCAM))
    drawn = before_volume(heat, radiograph, frame, ctpa)
    write_volume(drawn, folder / result_files.RADIOGRAPH_GRADCAM, np.float32)
    picture = render_preview(radiograph, frame, ctpa, gradcam, ["Score"], heat)
    result_files.write_picture(folder / result_files.PREVIEW, picture)
    record = json.loads((folder / result_files.RECORD).read_text())
    record["pe"]["second_opinion"] = OPINION
    result_files.write_record(folder, json.dumps(record))
    return folder


def node_ids(scene: Any) -> set[str]:
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}


def radiograph_node(scene: Any, rows: int = 120, columns: int = 100, name: str = "radiograph") -> Any:
    """As Slicer loads a PNG: one axial slice, a bright corner superior on the patient's right."""
    pixels = np.full((rows, columns), 40, np.uint8)
    pixels[:40, :30] = 250  # first rows and columns
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, pixels[np.newaxis])
    node.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
    node.SetSpacing(3.0, 3.0, 1.0)
    node.CreateDefaultDisplayNodes()
    return node


def picture(logic: Any) -> np.ndarray:
    """What a slice view shows: (rows from the top, columns from the left, RGB) uint8."""
    logic.UpdatePipeline()
    connection = logic.GetImageDataConnection()
    producer = connection.GetProducer()
    producer.Update(connection.GetIndex())
    image = producer.GetOutputDataObject(connection.GetIndex())
    columns, rows, _ = image.GetDimensions()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)
    return array[::-1, :, :3]
