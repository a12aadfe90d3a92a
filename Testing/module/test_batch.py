"""The batch list: what comes in, a run with progress, interruption, resumption, opening a result."""

import shutil
import types

import numpy as np
import pytest
import slicer
from scenes import radiograph_node, write_result

from xray2ctpa_core import mrml
from xray2ctpa_core.errors import InputError


@pytest.fixture
def batch_module(app):
    from XRay2CTPALib import Batch

    return Batch


def cells(panel):
    table = panel.ui.batchTable
    return [[table.item(r, c).text() for c in range(3)] for r in range(table.rowCount)]


def test_a_folder_gives_its_images_by_name_and_nothing_twice(batch_module, tmp_path):
    for name in (
        "b.png",
        "a.dcm",
        "IM0001",
        "1.2.840.1",
        "c.NII.GZ",
        "d.hdr",
        "d.img",
        "notes.txt",
        ".h.png",
    ):
        (tmp_path / name).write_bytes(b"")
    batch = batch_module.Batch()
    assert batch.addFolder(tmp_path) == 6
    assert [row.name for row in batch.rows] == ["1.2.840.1", "IM0001", "a.dcm", "b.png", "c.NII.GZ", "d.hdr"]
    assert batch.addFolder(tmp_path) == 0
    assert batch_module.folderNames([row.source for row in batch.rows]) == [
        "1.2.840.1",
        "IM0001",
        "a",
        "b",
        "c",
        "d",
    ]


def test_of_a_scene_only_radiographs_come_in(app, batch_module):
    radiograph, volume = radiograph_node(app.scene, name="PA"), radiograph_node(app.scene, name="CT")
    slicer.util.updateVolumeFromArray(volume, np.zeros((30, 40, 50), np.int16))
    batch = batch_module.Batch()
    assert batch.addNodes([radiograph, volume]) == 1
    assert batch.rows[0].name == "PA"
    app.scene.RemoveNode(radiograph)
    with pytest.raises(InputError, match="PA is no longer in the scene"):
        batch.start(None, app.temporary, lambda: None)
    assert app.leftovers() == []


def test_a_closed_scene_takes_its_nodes_out_of_the_list_whose_ids_others_get(panel, tmp_path):
    scene, batch = panel.slicer.scene, panel.logic.batch
    first = radiograph_node(scene, name="patient A")
    batch.addNodes([first])
    identifier = first.GetID()
    batch.rows[0].folder, batch.rows[0].state = write_result(tmp_path / "result"), "complete"
    del first
    scene.Clear(0)
    other = radiograph_node(scene, name="patient B")
    assert other.GetID() == identifier, "the reason of this test"
    panel.panel.batch.onOpenRow(0)
    shown = panel.ui.resultSelector.currentNode()
    assert shown.GetNodeReference(mrml.RADIOGRAPH_REFERENCE) is None, "not the result of patient B"
    with pytest.raises(InputError, match="patient A is no longer in the scene"):
        batch.start(None, tmp_path, lambda: None)
    assert batch.addNodes([other]) == 1


def test_a_patient_of_the_dicom_database_gives_the_radiographs_alone(batch_module):
    modality = {"/a": "CR", "/b": "DX", "/c": "CT", "/d": "RF"}
    database = types.SimpleNamespace(
        studiesForPatient={"7": ["s1", "s2"]}.get,
        seriesForStudy={"s1": ["x"], "s2": ["y", "z"]}.get,
        filesForSeries={"x": ["/a", "/b"], "y": ["/c"], "z": ["/d"]}.get,
        fileValue=lambda file, tag: modality[file] if tag == "0008,0060" else "",
    )
    assert [str(f) for f in batch_module.dicomRadiographs(database, "7")] == ["/a", "/b", "/d"]


def test_an_empty_list_and_a_missing_folder_are_said(panel, tmp_path):
    assert not panel.ui.batchStartButton.enabled
    assert panel.ui.batchStartButton.toolTip == "Add chest radiographs to the list."
    radiograph_node(panel.slicer.scene, name="PA")
    panel.click("batchSceneButton")
    assert cells(panel) == [["PA", "waiting", ""]]
    assert "Choose the folder for results first" in panel.ui.batchLabel.text
    panel.parameters.outputFolder = str(tmp_path)
    assert panel.ui.outputFolderEdit.text == str(tmp_path)
    assert panel.ui.batchStartButton.enabled
    panel.click("batchClearButton")
    assert cells(panel) == []


def test_a_batch_is_worked_off_interrupted_and_resumed_and_a_row_opens(panel, pipeline_bundle, tmp_path):
    from XRay2CTPALib.Sample import sampleFile

    inputs, output = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for name in ("one.png", "two.png", "three.png"):
        shutil.copyfile(sampleFile(), inputs / name)
    (inputs / "broken.png").write_bytes(b"no image")
    panel.parameters.bundle = str(pipeline_bundle)
    panel.parameters.force, panel.parameters.steps, panel.parameters.samples = True, 1, 1
    panel.parameters.outputFolder = str(output)
    panel.logic.batch.addFolder(inputs)
    panel.panel.update()
    panel.ui.batchCollapsibleButton.collapsed = False
    panel.click("batchStartButton")
    assert panel.logic.isRunning
    assert panel.ui.batchStartButton.text == "Stop &batch"
    panel.until(lambda: panel.logic.batch.rows[1].state == "complete")
    panel.click("batchStartButton")  # stop
    assert not panel.logic.isRunning
    assert [row.state for row in panel.logic.batch.rows] == ["failed", "complete", "waiting", "waiting"]
    assert panel.slicer.leftovers() == []
    assert sorted(p.name for p in output.iterdir()) == ["one"]
    stamp = (output / "one" / "ctpa.nii.gz").stat().st_mtime_ns
    panel.click("batchStartButton")
    panel.grab("batch-running")
    panel.until(lambda: not panel.logic.isRunning)
    states = {row.name: row.message for row in panel.logic.batch.rows}
    assert states["one.png"] == "complete before"
    assert states["two.png"] == states["three.png"] == "complete"
    assert "broken.png" in states["broken.png"]
    assert (output / "one" / "ctpa.nii.gz").stat().st_mtime_ns == stamp
    complete, failed, greyed = panel.ui.batchLabel.text.split("\n")
    assert complete == "3 of 4 complete."
    assert failed.startswith("1 failed, broken.png: Expected ")
    assert greyed.startswith("3 greyed out, one.png: The input gate refused this image")
    assert all(score for name, _state, score in cells(panel) if name != "broken.png")
    assert '"event": "result"' in panel.ui.logText.toPlainText()
    panel.grab("batch")
    assert panel.ui.resultSelector.currentNode() is None, "nothing came into the scene by itself"
    panel.panel.batch.onOpenRow(1)
    node = panel.ui.resultSelector.currentNode()
    assert mrml.result_of(node).record["input"]["name"] == "one.png"
    panel.panel.batch.onOpenRow(0)  # the broken one: nothing to open
    assert panel.ui.resultSelector.currentNode() is node
    assert panel.slicer.leftovers() == []
