"""The logic without the panel, as a script uses it: same voxels as the command line, and every failure."""

import os
import signal
import subprocess
import time

import io_radiographs as radiographs
import numpy as np
import psutil
import pytest
import slicer
from disks import mounted
from PIL import Image
from scenes import node_ids, radiograph_node

from xray2ctpa_core import mrml
from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io.volumes import read_volume


@pytest.fixture
def logic(app):
    import XRay2CTPA

    made = XRay2CTPA.XRay2CTPALogic()
    yield made
    made.cancel()


@pytest.fixture
def options(pipeline_bundle):
    """Random weights refuse nothing by design, and accept nothing either."""
    return {"bundle": str(pipeline_bundle), "steps": 1, "seed": 3, "device": "cpu", "force": True}


def voxels(node):
    return slicer.util.arrayFromVolume(node)


def until_sampling(logic, app):
    """Lets the run that goes on reach its first step."""
    while logic.isRunning and not logic.job.progress.fraction:
        app.app.processEvents()
        logic.job.poll()
        time.sleep(0.03)
    assert logic.isRunning


def write_radiographs(folder):
    """A PNG with alpha, a DICOM, an NRRD with pixels that are not square, one whose axes are turned."""
    grey = radiographs.quantised(8)
    alpha = np.full_like(grey, 255)
    alpha[:, -9:] = 0
    Image.fromarray(np.stack([grey] * 3 + [alpha], axis=-1), "RGBA").save(folder / "alpha.png")
    radiographs.write_dicom(folder / "dicom.dcm", ImagerPixelSpacing=list(radiographs.SPACING))
    straight, turned = (1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    radiographs.write_itk(folder / "odd.nrrd", grey[None], straight, (2.2, 2.6, 1.0))
    radiographs.write_itk(folder / "turned.nrrd", grey[None, ::-1, ::-1].copy(), turned, (2.2, 2.2, 1.0))
    return [folder / name for name in ("alpha.png", "dicom.dcm", "odd.nrrd", "turned.nrrd")]


@pytest.mark.slow
def test_every_form_of_node_gives_the_volume_that_the_command_line_gives(app, logic, options, tmp_path):
    from XRay2CTPALib.CoreCommand import coreArguments, coreEnvironment
    from XRay2CTPALib.Settings import RunSettings

    files = write_radiographs(tmp_path)
    arguments = ["generate", *map(str, files), "--out", str(tmp_path / "cli")]
    command = coreArguments([*arguments, *RunSettings(**options).arguments()])
    subprocess.run(command, env=coreEnvironment(), check=True, capture_output=True, timeout=100)
    nodes = [slicer.util.loadVolume(str(file)) for file in files]
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.array([[0, 1, 0, 30], [-1, 0, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    bare = []  # the same pictures, as nodes that no file stands for
    for file in files[2:]:
        node = slicer.util.loadVolume(str(file), {"name": f"{file.stem} edited"})
        node.SetAndObserveStorageNodeID(None)
        bare.append(node)
    results = logic.process([*nodes, *bare], **options)
    assert len(results) == 6
    for result, file in zip(results, [*files, *files[2:]], strict=True):
        expected = read_volume(tmp_path / "cli" / file.stem / "ctpa.nii.gz")
        assert np.array_equal(voxels(result.ctpa), expected.array), file.name
        spacing = result.ctpa.GetSpacing()
        assert spacing == pytest.approx(expected.spacing, abs=1e-4), file.name
    assert [r.ctpa.GetNodeReference(mrml.RADIOGRAPH_REFERENCE) for r in results] == [*nodes, *bare]
    assert results[1].record["input"]["name"] == "dicom.dcm"
    assert results[1].record["input"]["spacing_source"] == "ImagerPixelSpacing"
    assert results[4].record["input"]["name"] == "odd_edited.nrrd"
    assert app.leftovers() == []
    files[2].write_bytes(files[3].read_bytes())  # another picture under the old name
    from XRay2CTPALib.InputNode import sourceFile

    assert sourceFile(nodes[3]) == files[3]
    assert sourceFile(nodes[2]) is None


def test_modules_of_the_user_in_slicers_working_folder_are_not_imported(
    app, logic, options, tmp_path, monkeypatch
):
    """By the child, nor by its resident worker; also where PYTHONPATH names that folder by an empty entry."""
    for name in ("random", "threading", "queue", "copy", "numbers", "numpy", "torch"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the user was imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}")

    result = logic.process(radiograph_node(app.scene), **options)

    assert np.isfinite(voxels(result.ctpa)).all()
    assert "of the user" not in logic.job.logText()


@pytest.mark.slow
def test_run_again_reproduces_the_voxels_and_needs_the_radiograph(app, logic, options):
    radiograph = radiograph_node(app.scene)
    first = logic.process(radiograph, **options | {"samples": 2})
    again = logic.runAgain(first.ctpa)
    assert again.ctpa is not first.ctpa
    for name in ("ctpa", "gradcam", "gradcam_label", "spread"):
        assert np.array_equal(voxels(getattr(again, name)), voxels(getattr(first, name))), name
    assert again.record["sampling"]["samples"] == 2
    app.scene.RemoveNode(radiograph)
    with pytest.raises(InputError, match="no longer in the scene"):
        logic.runAgain(first.ctpa)
    with pytest.raises(InputError, match="this is none"):
        logic.runAgain(first.gradcam)


def test_a_second_run_is_refused_and_closing_the_scene_ends_the_first(app, logic, options):
    logic.process(radiograph_node(app.scene), wait=False, **options | {"steps": 1000})
    until_sampling(logic, app)
    job, process = logic.job, psutil.Process(logic.job.pid)
    with pytest.raises(InputError, match="A run is going on"):
        logic.process(radiograph_node(app.scene), **options)
    assert logic.job is job
    app.scene.Clear(0)
    assert job.state == "cancelled"
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert app.leftovers() == []
    assert app.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None


def test_a_killed_child_is_a_failure_with_advice_and_leaves_nothing(app, logic, options):
    before = node_ids(app.scene)
    radiograph = radiograph_node(app.scene)
    logic.process(radiograph, wait=False, **options | {"steps": 1000})
    until_sampling(logic, app)
    os.kill(logic.job.pid, signal.SIGKILL)
    logic.job.wait()
    assert logic.job.state == "failed"
    assert "without a result" in logic.job.failures[0].message
    assert "try again" in logic.job.failures[0].hint
    assert app.leftovers() == []
    app.scene.RemoveNode(radiograph.GetDisplayNode())
    app.scene.RemoveNode(radiograph)
    assert node_ids(app.scene) == before


@pytest.mark.slow
def test_an_input_that_is_deleted_during_the_run_still_gives_its_result(app, logic, options):
    radiograph = radiograph_node(app.scene)
    logic.process(radiograph, wait=False, **options)
    app.scene.RemoveNode(radiograph)
    logic.job.wait()
    [result] = logic.job.results
    assert result.ctpa.GetNodeReference(mrml.RADIOGRAPH_REFERENCE) is None
    assert result.record["input"]["name"] == "radiograph.nrrd"


def test_a_bundle_that_disappeared_is_named_and_leaves_nothing(app, logic, options, tmp_path):
    from XRay2CTPALib.Logic import RunFailed

    gone = options | {"bundle": str(tmp_path / "gone")}
    with pytest.raises(RunFailed, match=r"got '.*gone'") as caught:
        logic.process(radiograph_node(app.scene), **gone)
    assert "Choose another model" in caught.value.failures[0].hint
    assert app.leftovers() == []
    assert not logic.bundles.find(str(tmp_path / "gone")).info


@pytest.mark.slow
def test_a_picture_that_the_gate_refuses_gives_no_result(app, logic, options):
    from XRay2CTPALib.Logic import RunFailed

    stripes = radiograph_node(app.scene)
    voxels(stripes)[:] = (np.arange(100) % 20 * 12).astype(np.uint8)
    with pytest.raises(RunFailed, match="frontal"):
        logic.process(stripes, **options | {"bundle": "virtual-thorax", "force": False})
    assert app.leftovers() == []


def test_a_full_disk_is_said_in_words_and_leaves_nothing(app, logic, options, tmp_path):
    from XRay2CTPALib.Logic import RunFailed

    radiograph = radiograph_node(app.scene)
    with mounted(tmp_path / "small", "size=4m") as small:
        app.app.temporaryPath = str(small)
        with pytest.raises(RunFailed, match="of free disk, got") as caught:
            logic.process(radiograph, **options)
        assert "Free some space" in caught.value.failures[0].hint
        assert list(small.iterdir()) == []
        slicer.util.updateVolumeFromArray(radiograph, np.random.default_rng(0).random((1, 900, 900)))
        with pytest.raises(OutputError, match="could not be written"):
            logic.process(radiograph, **options)
        assert list(small.iterdir()) == []


@pytest.mark.slow
def test_a_batch_goes_on_after_a_failure_and_says_which(app, logic, options):
    good, flat = radiograph_node(app.scene), radiograph_node(app.scene, name="flat")
    voxels(flat)[:] = 7
    [result] = logic.process([flat, good], **options)
    assert result.ctpa.GetNodeReference(mrml.RADIOGRAPH_REFERENCE) is good
    assert [failure.input for failure in logic.job.failures] == ["flat.nrrd"]
    assert "a blank image" in logic.job.failures[0].message


def test_unusable_nodes_are_refused_before_anything_starts(app, logic):
    volume = radiograph_node(app.scene, name="CT")
    slicer.util.updateVolumeFromArray(volume, np.zeros((3, 40, 50), np.int16))
    label = app.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mask")
    empty = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    for node, words in (
        (volume, "3 slices"),
        (label, "mask is none"),
        (empty, "no image"),
        (None, "Select"),
    ):
        with pytest.raises(InputError, match=words):
            logic.process(node)
    with pytest.raises(InputError, match="at least one"):
        logic.process([])
    assert logic.job is None
    assert app.leftovers() == []


@pytest.mark.slow
def test_twenty_runs_in_a_row_leave_no_process_file_or_node(app, logic, options):
    radiograph = radiograph_node(app.scene)
    before, threads = node_ids(app.scene), len(psutil.Process().threads())
    children = psutil.Process().children()  # an earlier test's worker pool leaves its resource tracker
    handles = psutil.Process().num_fds() if hasattr(psutil.Process, "num_fds") else 0
    for seed in range(20):
        result = logic.process(radiograph, **options | {"seed": seed})
        names = {node.GetName() for node in result.all()}
        assert all("SYNTHETIC" in name for name in names)
        mrml.remove_result(result)
        assert node_ids(app.scene) == before
        assert app.leftovers() == []
        assert psutil.Process().children() == children
    assert len(psutil.Process().threads()) <= threads + 2
    if handles:
        assert psutil.Process().num_fds() <= handles + 2
