"""A result goes back as DICOM: through the panel's button and the core's command into Slicer's database."""

import json
import shutil
import sys
import types
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import pydicom
import pytest
import slicer
import vtk
from dicom_validator import faults
from pydicom.uid import generate_uid
from scenes import radiograph_node, write_result

from xray2ctpa_core import mrml
from xray2ctpa_core.io.provenance import file_sha256

pytest.importorskip("highdicom", reason="the extra dicom writes DICOM")

STUDY = generate_uid()


class Database:
    """``slicer.dicomDatabase`` as far as the module uses it: files by series."""

    isOpen = True

    def __init__(self, folder: Path, most: int = 1000) -> None:
        self.folder, self.most = folder, most
        folder.mkdir()

    def filesForSeries(self, uid: str) -> list[str]:
        files = sorted(self.folder.iterdir())
        return [str(file) for file in files if pydicom.dcmread(file).SeriesInstanceUID == uid]

    def series(self, modality: str) -> list[str]:
        """Files of the one series of a modality."""
        found = {pydicom.dcmread(file).SeriesInstanceUID for file in self.folder.iterdir()}
        [files] = [
            files
            for files in map(self.filesForSeries, found)
            if pydicom.dcmread(files[0]).Modality == modality
        ]
        return files


def import_dicom(dicomDataDir: str, dicomDatabase: Database, copyFiles: bool = False) -> bool:
    """``DICOMLib.DICOMUtils.importDicom``."""
    assert copyFiles, "the files are temporary"
    for file in sorted(Path(dicomDataDir).iterdir())[: dicomDatabase.most]:
        shutil.copy(file, dicomDatabase.folder)
    return True


@pytest.fixture
def database(tmp_path, monkeypatch):
    made = Database(tmp_path / "database")
    utils = types.SimpleNamespace(importDicom=import_dicom)
    monkeypatch.setitem(sys.modules, "DICOMLib", types.SimpleNamespace(DICOMUtils=utils))
    monkeypatch.setattr(slicer, "dicomDatabase", made, raising=False)
    return made


@pytest.fixture
def radiograph(tmp_path):
    """A radiograph in DICOM."""
    return radiographs.write_dicom(
        tmp_path / "chest.dcm", PatientName="Roe^Jane", PatientID="4711", StudyInstanceUID=STUDY
    )


def loaded(panel, tmp_path, radiograph, sha256):
    """The small result of ``radiograph``, in the scene and selected."""
    folder = write_result(tmp_path / "result")
    record = json.loads((folder / "result.json").read_text())
    record["input"]["sha256"] = sha256
    (folder / "result.json").write_text(json.dumps(record))
    nodes = mrml.load_result(folder, panel.slicer.scene, radiograph)
    shutil.rmtree(folder)  # the scene alone is left, as after a run
    panel.until(lambda: panel.ui.resultSelector.currentNode() is nodes.ctpa, 5)
    return nodes


def export(panel):
    panel.click("dicomButton")
    panel.until(lambda: panel.ui.dicomButton.text != "Writing DICOM...", 120)


def test_a_result_lies_in_the_study_of_its_radiograph_and_loads_at_the_same_place(
    panel, database, radiograph, tmp_path
):
    nodes = loaded(panel, tmp_path, slicer.util.loadVolume(str(radiograph)), file_sha256(radiograph))
    export(panel)
    said = "17 DICOM files, marked SYNTHETIC, are in the DICOM database, in the study of the radiograph."
    assert said in panel.ui.resultLabel.text
    assert panel.slicer.dialogs.shown == []
    panel.until(lambda: panel.slicer.leftovers() == [])
    for file in database.folder.iterdir():
        dataset = pydicom.dcmread(file)
        assert (dataset.StudyInstanceUID, dataset.PatientID) == (STUDY, "4711")
        assert dataset.SeriesDescription.startswith("SYNTHETIC")
        assert dataset.ImageType[0] == "DERIVED"
    slices = database.series("CT")
    again = read_by_slicer(slices)
    assert np.array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(nodes.ctpa))
    assert ijk_to_ras(again) == pytest.approx(ijk_to_ras(nodes.ctpa), abs=1e-4)
    [heat] = [pydicom.dcmread(file) for file in database.series("OT")]
    frames = np.frombuffer(heat.FloatPixelData, "<f4").reshape(16, 24, 20)
    groups = heat.PerFrameFunctionalGroupsSequence
    order = np.argsort([float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in groups])
    assert np.array_equal(frames[order], slicer.util.arrayFromVolume(nodes.gradcam))
    assert faults(Path(slices[0])) == []


def read_by_slicer(files):
    """A volume from its slices in the order of place, by the storage node of Slicer's DICOM reader."""
    ordered = sorted(files, key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(ordered[0])
    storage.ResetFileNameList()
    for file in ordered:
        storage.AddFileName(file)
    storage.SetSingleFile(False)
    node = slicer.vtkMRMLScalarVolumeNode()
    assert storage.ReadData(node)
    return node


def ijk_to_ras(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return [matrix.GetElement(row, column) for row in range(4) for column in range(4)]


def test_a_result_of_another_form_gets_a_patient_of_its_own(panel, database, tmp_path):
    loaded(panel, tmp_path, radiograph_node(panel.slicer.scene, name="PA"), "ab" * 32)
    export(panel)
    assert "under a patient of their own" in panel.ui.resultLabel.text
    assert pydicom.dcmread(database.series("CT")[0]).PatientID == "SYNTHETIC-" + "ab" * 8


def test_without_a_database_nothing_is_started_and_the_way_to_one_is_said(panel, database, tmp_path):
    loaded(panel, tmp_path, radiograph_node(panel.slicer.scene, name="PA"), "ab" * 32)
    database.isOpen = False
    panel.click("dicomButton")
    [(kind, text)] = panel.slicer.dialogs.shown
    assert kind == "tell"
    assert "The DICOM database is not open." in text
    assert "module DICOM" in text
    panel.until(lambda: panel.slicer.leftovers() == [])


def test_a_database_that_takes_a_part_only_is_a_failure(panel, database, tmp_path):
    loaded(panel, tmp_path, radiograph_node(panel.slicer.scene, name="PA"), "ab" * 32)
    database.most = 5
    export(panel)
    assert "The DICOM database took 5 of 17 files." in panel.slicer.dialogs.shown[-1][1]
    assert "DICOM" not in panel.ui.resultLabel.text
    panel.until(lambda: panel.slicer.leftovers() == [])


def test_a_radiograph_that_was_exchanged_meanwhile_is_refused_in_the_cores_words(
    panel, database, radiograph, tmp_path
):
    loaded(panel, tmp_path, slicer.util.loadVolume(str(radiograph)), "ab" * 32)
    export(panel)
    assert "got chest.dcm, which is another file" in panel.slicer.dialogs.shown[-1][1]
    assert list(database.folder.iterdir()) == []


def test_highdicom_is_installed_after_a_question_and_not_without(panel, database, tmp_path, monkeypatch):
    from XRay2CTPALib import Installer

    loaded(panel, tmp_path, radiograph_node(panel.slicer.scene, name="PA"), "ab" * 32)
    real = Installer._installedVersion
    monkeypatch.setattr(
        Installer, "_installedVersion", lambda name: None if name == "highdicom" else real(name)
    )
    panel.slicer.dialogs.answer = False
    panel.click("dicomButton")
    [(kind, text)] = panel.slicer.dialogs.shown
    assert kind == "ask"
    assert "highdicom>=0.22: 28 MB" in text
    assert panel.ui.dicomButton.text == "E&xport DICOM"
    assert list(database.folder.iterdir()) == []
