"""What is taken home is named after the radiograph, says SYNTHETIC in every name, and opens again."""

import io
import json
import zipfile
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from scenes import add_second_opinion, write_result

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_series import read_dicom_series
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.viewer.download import attachment, dicom_zip, result_zip
from xray2ctpa_core.viewer.shelf import Entry


@pytest.fixture
def uploaded(tmp_path: Path) -> Entry:
    """A result of a DICOM upload, which lies under a neutral name."""
    (tmp_path / "upload").mkdir()
    radiograph = radiographs.write_dicom(
        tmp_path / "upload" / "radiograph.dcm", PatientID="4711", StudyInstanceUID=generate_uid()
    )
    folder = write_result(tmp_path / "result-1f2e3d4c")
    record = json.loads((folder / "result.json").read_text())
    record["input"] = {"name": "radiograph.dcm", "sha256": file_sha256(radiograph)}
    (folder / "result.json").write_text(json.dumps(record))
    (folder / "preview.png").write_bytes(b"a picture")
    return Entry(folder, "chest of Müller.dcm", radiograph)


def test_the_map_of_a_second_opinion_is_taken_home_too(uploaded: Entry, tmp_path: Path) -> None:
    add_second_opinion(uploaded.folder, np.full((80, 60), 0.5), (slice(0, 10), slice(0, 10)))
    names = unpacked(result_zip(uploaded)[1], tmp_path / "home")
    assert "radiograph-gradcam.nii.gz" in {Path(n).name for n in names}


def unpacked(content: bytes, place: Path) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(place)
        return archive.namelist()


def test_the_files_of_a_result_are_named_after_the_radiograph(uploaded: Entry, tmp_path: Path) -> None:
    name, content = result_zip(uploaded)
    names = unpacked(content, tmp_path / "home")

    base = "SYNTHETIC-chest of Müller-ctpa"
    assert name == f"{base}.zip"
    assert {Path(n).parent.as_posix() for n in names} == {base}
    assert {Path(n).name for n in names} == {
        *("ctpa.nii.gz", "gradcam.nii.gz", "gradcam-label.nii.gz", "spread.nii.gz"),
        *("result.json", "preview.png", f"{base}.nii.gz"),
    }
    record = json.loads((tmp_path / "home" / base / "result.json").read_text())
    assert record["input"]["name"] == "chest of Müller.dcm"
    copy, volume = (read_volume(tmp_path / "home" / base / n) for n in (f"{base}.nii.gz", "ctpa.nii.gz"))
    assert np.array_equal(copy.array, volume.array)


def test_a_result_that_was_opened_from_its_folder_is_named_by_its_record(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "tmp8x_result")

    assert result_zip(Entry(folder, folder.name))[0] == "SYNTHETIC-radiograph-ctpa.zip"


def test_the_dicom_series_join_the_radiographs_study(uploaded: Entry, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="the extra viewer brings it")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    name, content = dicom_zip(uploaded, scratch)
    names = unpacked(content, tmp_path / "home")

    assert name == "SYNTHETIC-chest of Müller-ctpa-dicom.zip"
    assert list(scratch.iterdir()) == []
    assert len(names) == 17  # 16 slices and the parametric map
    folder = tmp_path / "home" / "SYNTHETIC-chest of Müller-ctpa-dicom"
    assert uploaded.radiograph is not None
    study = pydicom.dcmread(uploaded.radiograph).StudyInstanceUID
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        assert dataset.StudyInstanceUID == study
        assert dataset.SeriesDescription.startswith("SYNTHETIC")
        assert dataset[0x0008001C].value == "YES"
    assert pydicom.dcmread(folder / "ctpa-0001.dcm")[0x60001500].value == "SYNTHETIC"
    (folder / "gradcam.dcm").unlink()
    volume = read_volume(uploaded.folder / "ctpa.nii.gz")
    series = read_dicom_series(folder)
    assert np.array_equal(series.volume.array, volume.array)
    assert series.volume.affine == pytest.approx(volume.affine)


def test_a_result_of_another_radiograph_gives_no_dicom(uploaded: Entry, tmp_path: Path) -> None:
    other = radiographs.write_dicom(tmp_path / "other.dcm")

    with pytest.raises(InputError, match="another file"):
        dicom_zip(Entry(uploaded.folder, "other.dcm", other), tmp_path)


def test_any_letters_of_a_name_fit_the_header() -> None:
    assert attachment('a"Mü.zip') == "attachment; filename=\"a_M_.zip\"; filename*=UTF-8''a%22M%C3%BC.zip"
