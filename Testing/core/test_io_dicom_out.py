"""A result as DICOM: valid by dciodvfy, in the radiograph's study, saying everywhere that it is synthetic."""

import json
import shutil
import warnings
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import pydicom
import pytest
from ct_series import phantom
from dicom_validator import faults
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.constants import NOTICE
from xray2ctpa_core.errors import OutputError
from xray2ctpa_core.generation.dicom_export import check_place, export_dicom
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.dicom_out import GRADCAM_FILE, is_written, radiograph_header, write_dicom_result
from xray2ctpa_core.io.dicom_overlay import word_mask
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume

pytest.importorskip("highdicom", reason="the extra dicom writes DICOM")

CTPA = Volume(phantom().array.astype(np.int16), phantom().affine)
GRADCAM = CTPA.with_array(np.linspace(0, 1, CTPA.array.size, dtype=np.float32).reshape(CTPA.array.shape))
SHA256 = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return radiographs.write_dicom(
        tmp_path_factory.mktemp("study") / "f.dcm",
        PatientName="Roe^Jane",
        PatientID="4711",
        PatientBirthDate="19600102",
        PatientSex="F",
        StudyInstanceUID=generate_uid(),
        StudyDate="20260102",
        StudyTime="101112",
        StudyID="7",
        AccessionNumber="8",
    )


@pytest.fixture(scope="module")
def written(radiograph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "dicom"
    write_dicom_result(folder, CTPA, GRADCAM, radiograph_header(radiograph), SHA256, SHA256)
    return folder


def instances(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_every_instance_is_valid(written: Path) -> None:
    for path in (written / "ctpa-0001.dcm", written / "ctpa-0012.dcm", written / GRADCAM_FILE):
        assert faults(path) == []


def test_a_radiograph_that_is_no_dicom_gives_a_valid_patient_of_its_own(tmp_path: Path) -> None:
    write_dicom_result(tmp_path / "out", CTPA, GRADCAM, None, SHA256, SHA256)

    dataset = pydicom.dcmread(tmp_path / "out" / "ctpa-0001.dcm")
    assert faults(tmp_path / "out" / "ctpa-0001.dcm") == []
    assert dataset.PatientID == "SYNTHETIC-0123456789abcdef"
    assert "SYNTHETIC" in str(dataset.PatientName)


def test_it_lies_in_the_radiographs_study_under_new_uids(written: Path, radiograph: Path) -> None:
    source, made = pydicom.dcmread(radiograph), instances(written)

    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
        assert {str(dataset.get(keyword)) for dataset in made} == {str(source.get(keyword))}
    assert len({dataset.SOPInstanceUID for dataset in made}) == 13
    assert len({dataset.SeriesInstanceUID for dataset in made}) == 2
    assert len({dataset.FrameOfReferenceUID for dataset in made}) == 1
    assert made[0].SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_every_instance_says_that_it_is_synthetic_and_derived(written: Path) -> None:
    for dataset in instances(written):
        assert dataset.SeriesDescription.startswith("SYNTHETIC")
        assert dataset.SyntheticData == "YES"
        assert dataset.ImageType[0] == "DERIVED"
        assert dataset.BurnedInAnnotation == "NO"
        assert "hypothesis" in dataset.DerivationDescription


def test_over_every_slice_lies_the_word_synthetic_and_no_voxel_is_changed(written: Path) -> None:
    for k in (0, 11):
        dataset = pydicom.dcmread(written / f"ctpa-{k + 1:04d}.dcm")
        word = dataset.overlay_array(0x6000).astype(bool)

        assert np.array_equal(word, word_mask((32, 32)))
        assert 20 < word.sum() < 300
        assert np.array_equal(dataset.pixel_array, CTPA.array[k])
        assert dataset[0x60001500].value == "SYNTHETIC"


def test_the_word_grows_with_the_image() -> None:
    mask = word_mask((128, 200))

    columns = np.flatnonzero(mask.any(axis=0))
    assert 90 <= columns[-1] <= 125  # 0.6 of 200 pixels, from the left edge
    assert columns[0] <= 6
    assert not mask[40:].any()


def test_the_series_reads_as_the_volume(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "series")
    (tmp_path / "series" / GRADCAM_FILE).unlink()

    scan = read_ct(tmp_path / "series")

    assert np.array_equal(scan.volume.array, CTPA.array)
    assert scan.volume.affine == pytest.approx(CTPA.affine, abs=1e-6)


def test_the_parametric_map_holds_grad_cam_slice_by_slice(written: Path) -> None:
    dataset = pydicom.dcmread(written / GRADCAM_FILE)

    frames = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(CTPA.array.shape)
    places = [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        for group in dataset.PerFrameFunctionalGroupsSequence
    ]
    order = np.argsort(places)
    assert np.array_equal(frames[order], GRADCAM.array)
    assert np.array(places)[order] == pytest.approx(CTPA.affine[2, 3] + 20.0 * np.arange(12))


def test_a_result_is_exported_once_and_another_never_over_it(radiograph: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.mkdir()
    write_volume(CTPA, result / "ctpa.nii.gz", np.int16)
    write_volume(GRADCAM, result / "gradcam.nii.gz", np.float32)
    for _ in range(2):
        check_place(tmp_path / "dicom", result)
        export_dicom(result, radiograph, tmp_path / "dicom", SHA256)
    before = sorted(p.name for p in (tmp_path / "dicom").iterdir())

    write_volume(CTPA.with_array(CTPA.array + 1), result / "ctpa.nii.gz", np.int16)
    with pytest.raises(OutputError, match="which exists"):
        export_dicom(result, radiograph, tmp_path / "dicom", SHA256)
    with pytest.raises(OutputError, match="which exists"):
        check_place(tmp_path / "dicom", tmp_path / "not made yet")

    assert sorted(p.name for p in (tmp_path / "dicom").iterdir()) == before
    assert not is_written(tmp_path / "dicom", "f" * 64)


@pytest.fixture
def result(radiograph: Path, tmp_path: Path) -> Path:
    """A result folder of the radiograph."""
    folder = tmp_path / "result"
    folder.mkdir()
    write_volume(CTPA, folder / "ctpa.nii.gz", np.int16)
    write_volume(GRADCAM, folder / "gradcam.nii.gz", np.float32)
    record = {
        "input": {"name": radiograph.name, "sha256": file_sha256(radiograph)},
        "pe": {"probability": 0.4, "unreliable": "It means nothing here."},
    }
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.mark.parametrize("with_radiograph", [True, False])
def test_the_command_writes_a_finished_result(
    with_radiograph: bool, result: Path, radiograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cxr", str(radiograph)] if with_radiograph else []

    for _ in range(2):  # the second time it is there already
        code = main(["dicom", str(result), str(tmp_path / "dicom"), "--json", *options])

    assert code == 0
    first, again = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == again
    assert first["in_the_radiographs_study"] == with_radiograph
    assert sorted(map(len, first["series"].values())) == [1, 12]
    heat = pydicom.dcmread(tmp_path / "dicom" / GRADCAM_FILE)
    assert heat.ImageComments == f"{NOTICE} It means nothing here."
    study = pydicom.dcmread(tmp_path / "dicom" / "ctpa-0001.dcm").StudyInstanceUID
    assert (study == pydicom.dcmread(radiograph).StudyInstanceUID) == with_radiograph


def test_the_command_refuses_another_radiograph_and_a_folder_without_a_result(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = radiographs.write_dicom(tmp_path / "other.dcm")

    assert main(["dicom", str(result), str(tmp_path / "out"), "--cxr", str(other)]) == 2
    assert "got other.dcm, which is another file" in capsys.readouterr().err
    assert main(["dicom", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "Expected a result folder with result.json" in capsys.readouterr().err
    assert main(["dicom", str(result), str(tmp_path / "out"), "--cxr", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_odd_values_of_the_radiograph_are_passed_on_without_a_word(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = radiographs.write_dicom(tmp_path / "f.dcm", PatientAge="62", PatientSex="X", StudyDate="2026")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_dicom_result(tmp_path / "out", CTPA, GRADCAM, radiograph_header(path), SHA256, SHA256)

    assert (tmp_path / "out" / GRADCAM_FILE).is_file()


def source(folder: Path, **elements: object) -> Dataset:
    """Header of a radiograph with ``elements``, bytes taken for a value as it stands in the file."""
    path = radiographs.write_dicom(folder / "f.dcm", PatientName="Roe^Jane", StudyInstanceUID=generate_uid())
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        if isinstance(value, bytes):
            tag = Tag(tag_for_keyword(keyword))
            raw = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
            dataset._dict[tag] = raw
        elif value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    header = radiograph_header(path)
    assert header is not None
    return header


@pytest.mark.parametrize(
    ("elements", "name"),
    [
        ({"PatientName": b"M\xfcller^J\xf6rg "}, "Müller^Jörg"),
        ({"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"}, "Müller^Jörg"),
        (
            {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
            "Yamada^Tarou=山田^太郎",
        ),
        ({"SpecificCharacterSet": b"LATIN-1 "}, "Roe^Jane"),
        ({"PatientName": b"Roe\n^Jane"}, "Roe ^Jane"),
    ],
)
def test_a_name_in_any_character_set_is_the_same_person(elements: dict, name: str, tmp_path: Path) -> None:
    write_dicom_result(tmp_path / "out", CTPA, GRADCAM, source(tmp_path, **elements), SHA256, SHA256)

    for file in ("ctpa-0001.dcm", GRADCAM_FILE):
        assert str(pydicom.dcmread(tmp_path / "out" / file).PatientName) == name
        assert faults(tmp_path / "out" / file) == []


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", b"20261399"),
        ("StudyDate", b"2026.01.02"),
        ("PatientBirthDate", b"00000000"),
        ("StudyTime", b"256199"),
        ("PatientSex", b"U "),
    ],
)
def test_what_is_no_date_time_or_sex_is_left_empty(keyword: str, value: bytes, tmp_path: Path) -> None:
    header = source(tmp_path, **{keyword: value})

    write_dicom_result(tmp_path / "out", CTPA, GRADCAM, header, SHA256, SHA256)

    assert pydicom.dcmread(tmp_path / "out" / "ctpa-0001.dcm").get(keyword) in ("", None)
    assert faults(tmp_path / "out" / GRADCAM_FILE) == []


def test_a_radiograph_without_its_class_is_joined_but_not_referenced(tmp_path: Path) -> None:
    header = source(tmp_path, SOPClassUID=None)

    write_dicom_result(tmp_path / "out", CTPA, GRADCAM, header, SHA256, SHA256)

    made = pydicom.dcmread(tmp_path / "out" / "ctpa-0001.dcm")
    assert made.StudyInstanceUID == header.StudyInstanceUID
    assert "SourceImageSequence" not in made
