"""A result folder in Slicer's own MRML scene (slicer-core): places, names, attributes, display, failures."""

import json
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from xray2ctpa_core import mrml
from xray2ctpa_core.constants import AIR_HU, NOTICE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume, axial_affine

SHAPE = (8, 12, 10)
EXTENT_MM = (40.0, 36.0, 20.0)  # voxels of 2 x 3 x 5 mm along i, j, k
CENTRE_LPS = (7.0, -11.0, 100.0)
#: (k, j, i) near the superior, anterior, left corner: k=0 is inferior, j=0 anterior, i=0 right.
MARKER_KJI = (6, 1, 8)
#: By hand: i=8 lies (8 - 4.5) * 2 = 7 mm left of the centre, j=1 (5.5 - 1) * 3 = 13.5 mm anterior and
#: k=6 (6 - 3.5) * 5 = 12.5 mm superior of it. RAS turns the signs of LPS x and y.
MARKER_RAS = (-(7.0 + 7.0), 11.0 + 13.5, 100.0 + 12.5)

RECORD = {
    "schema_version": "1.0",
    "input": {"name": "radiograph.png", "sha256": "ab" * 32},
    "bundle": {"name": "virtual-thorax", "version": "1.2.3", "sha256": "cd" * 32, "is_demonstration": True},
    "sampling": {
        "scheduler": "dpmsolver++",
        "steps": 7,
        "seed": 42,
        "samples": 1,
        "device": "cpu",
        "precision": "fp32",
    },
    "pe": {"probability": 0.25, "threshold": 0.5, "calibrated": False},
    "notice": NOTICE,
}


@pytest.fixture
def scene():
    """An empty scene with Slicer's default colour tables, which the application always has."""
    scene = slicer.vtkMRMLScene()
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    yield scene
    colors.SetMRMLScene(None)
    scene.Clear(1)


def write_result(folder: Path, spread: bool = False) -> Path:
    """A complete result of tiny volumes with a marker near the left, anterior, superior corner."""
    folder.mkdir()
    affine = axial_affine(SHAPE, EXTENT_MM, CENTRE_LPS)
    ctpa = np.full(SHAPE, AIR_HU, np.float32)
    ctpa[MARKER_KJI] = 700.0
    heat = np.zeros(SHAPE, np.float32)
    heat[MARKER_KJI] = 0.625
    write_volume(Volume(ctpa, affine), folder / "ctpa.nii.gz", np.int16)
    write_volume(Volume(heat, affine), folder / "gradcam.nii.gz", np.float32)
    write_volume(Volume((heat > 0) * 2, affine), folder / "gradcam-label.nii.gz", np.uint8)
    if spread:
        write_volume(Volume(heat * 80, affine), folder / "spread.nii.gz", np.float32)
    (folder / "result.json").write_text(json.dumps(RECORD), encoding="utf-8")
    return folder


def voxels(node) -> np.ndarray:
    """(k, j, i) array of a volume node."""
    image = node.GetImageData()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def brightest_ras(node) -> tuple[float, float, float]:
    """RAS position in mm of the node's highest voxel, through its own IJKToRAS."""
    k, j, i = np.unravel_index(np.argmax(voxels(node)), voxels(node).shape)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix.MultiplyPoint((float(i), float(j), float(k), 1.0))[:3]


def ids(scene) -> set[str]:
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


def test_a_marker_on_the_patients_left_anterior_superior_is_there_in_ras(tmp_path, scene):
    nodes = mrml.load_result(write_result(tmp_path / "result", spread=True), scene)
    for node in (nodes.ctpa, nodes.gradcam, nodes.gradcam_label, nodes.spread):
        assert brightest_ras(node) == pytest.approx(MARKER_RAS, abs=1e-3)
    right, _, _ = brightest_ras(nodes.ctpa)
    assert right < -CENTRE_LPS[0], "R is positive to the patient's right: left of the centre is smaller"


def test_voxels_arrive_unchanged(tmp_path, scene):
    nodes = mrml.load_result(write_result(tmp_path / "result"), scene)
    assert voxels(nodes.ctpa).shape == SHAPE
    assert voxels(nodes.ctpa)[MARKER_KJI] == 700
    assert (voxels(nodes.ctpa) == AIR_HU).sum() == np.prod(SHAPE) - 1
    assert voxels(nodes.gradcam)[MARKER_KJI] == pytest.approx(0.625)
    assert voxels(nodes.gradcam_label)[MARKER_KJI] == 2


def test_every_node_says_synthetic_and_how_it_was_made(tmp_path, scene):
    nodes = mrml.load_result(write_result(tmp_path / "result", spread=True), scene)
    for node in (nodes.ctpa, nodes.gradcam, nodes.gradcam_label, nodes.spread):
        assert "SYNTHETIC" in node.GetName()
        assert "radiograph.png" in node.GetName()
        assert node.GetAttribute("XRay2CTPA.Seed") == "42"
        assert node.GetAttribute("XRay2CTPA.Steps") == "7"
        assert node.GetAttribute("XRay2CTPA.Scheduler") == "dpmsolver++"
        assert node.GetAttribute("XRay2CTPA.Bundle") == "virtual-thorax"
        assert node.GetAttribute("XRay2CTPA.BundleSHA256") == "cd" * 32
        assert node.GetAttribute("XRay2CTPA.BundleIsDemonstration") == "true"
        assert "never a diagnosis" in node.GetAttribute("XRay2CTPA.Notice")


def test_the_ctpa_opens_in_the_ctpa_window_and_the_maps_in_fixed_ranges(tmp_path, scene):
    nodes = mrml.load_result(write_result(tmp_path / "result", spread=True), scene)
    ctpa, heat = nodes.ctpa.GetDisplayNode(), nodes.gradcam.GetDisplayNode()
    assert (ctpa.GetLevel(), ctpa.GetWindow(), ctpa.GetAutoWindowLevel()) == (150.0, 900.0, 0)
    assert (heat.GetLevel(), heat.GetWindow()) == (0.5, 1.0)
    assert (heat.GetApplyThreshold(), heat.GetLowerThreshold()) == (1, 0.25)
    assert heat.GetColorNode() is not None
    assert nodes.spread.GetDisplayNode().GetWindow() == 200.0


def test_two_results_share_one_colour_table_of_three_named_levels(tmp_path, scene):
    first = mrml.load_result(write_result(tmp_path / "first"), scene)
    second = mrml.load_result(write_result(tmp_path / "second"), scene)
    table = first.gradcam_label.GetDisplayNode().GetColorNode()
    assert table is second.gradcam_label.GetDisplayNode().GetColorNode()
    assert [table.GetColorName(value) for value in range(4)] == ["background", "low", "medium", "high"]
    background = [1.0] * 4
    table.GetColor(0, background)
    assert background[3] == 0.0


def test_one_sample_has_no_spread_node(tmp_path, scene):
    assert mrml.load_result(write_result(tmp_path / "result"), scene).spread is None


def test_nodes_outlive_the_folder_they_came_from(tmp_path, scene):
    folder = write_result(tmp_path / "result")
    nodes = mrml.load_result(folder, scene)
    for file in folder.iterdir():
        file.unlink()
    assert nodes.ctpa.GetStorageNode() is None
    assert voxels(nodes.ctpa)[MARKER_KJI] == 700


def test_the_applications_scene_is_the_default(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    nodes = mrml.load_result(write_result(tmp_path / "result"))
    assert nodes.ctpa.GetScene() is scene


def cut_ctpa(folder: Path) -> None:
    path = folder / "ctpa.nii.gz"
    path.write_bytes(path.read_bytes()[:40])


def remove_label(folder: Path) -> None:
    (folder / "gradcam-label.nii.gz").unlink()


def move_gradcam(folder: Path) -> None:
    affine = axial_affine(SHAPE, EXTENT_MM, (0.0, 0.0, 0.0))
    write_volume(Volume(np.zeros(SHAPE, np.float32), affine), folder / "gradcam.nii.gz", np.float32)


def shrink_gradcam(folder: Path) -> None:
    affine = axial_affine(SHAPE, EXTENT_MM, CENTRE_LPS)
    write_volume(Volume(np.zeros((4, 12, 10), np.float32), affine), folder / "gradcam.nii.gz", np.float32)


def remove_record(folder: Path) -> None:
    (folder / "result.json").unlink()


def age_record(folder: Path) -> None:
    (folder / "result.json").write_text(json.dumps(RECORD | {"schema_version": "0.1"}), encoding="utf-8")


def drop_seed(folder: Path) -> None:
    record = RECORD | {"sampling": {"steps": 7}}
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_ctpa, "readable volume"),
        (remove_label, "gradcam-label.nii.gz, got none"),
        (move_gradcam, "one grid"),
        (shrink_gradcam, "one grid"),
        (remove_record, "result.json"),
        (age_record, "'0.1'"),
        (drop_seed, "sampling.seed"),
    ],
)
def test_a_damaged_result_is_refused_and_leaves_the_scene_as_it_was(tmp_path, scene, damage, words):
    folder = write_result(tmp_path / "result")
    damage(folder)
    before = ids(scene)
    with pytest.raises(InputError, match=words):
        mrml.load_result(folder, scene)
    assert ids(scene) == before
