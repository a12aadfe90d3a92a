"""An enhanced (multi-frame) CT becomes the same volume as the series of single slices that it stands for."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_series import Edit, phantom, write_enhanced, write_series
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.dicom_series import read_dicom_series
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.volume import Volume


def stepped_volume() -> Volume:
    """(6, 64, 40): in slice k, HU are multiples of k + 1 above -1024, which its slope stores without loss."""
    k, j, i = np.indices((6, 64, 40))
    affine = np.diag([2.0, 3.0, 2.5, 1.0])
    affine[:3, 3] = (-50.0, -60.0, 70.0)
    return Volume(((k + 1.0) * (10 * j + i) - 1024).astype(np.float32), affine)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("as_folder", [False, True])
def test_frames_are_ordered_by_position_and_rescaled_each_by_its_own_groups(
    as_folder: bool, syntax: str, tmp_path: Path
) -> None:
    file = tmp_path / "enhanced.dcm"
    order = write_enhanced(file, stepped_volume(), syntax=syntax)

    series = read_dicom_series(tmp_path if as_folder else file)

    assert order == [3, 2, 1, 0, 5, 4]
    assert np.array_equal(series.volume.array, stepped_volume().array)
    assert series.volume.affine == pytest.approx(stepped_volume().affine)
    assert series.files == (file,)
    assert series.notes == ()


def test_a_file_of_many_frames_is_a_ct_like_the_series(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ENHANCED", phantom())
    write_series(tmp_path / "series", phantom())

    enhanced, series = read_ct(tmp_path / "ENHANCED"), read_ct(tmp_path / "series")

    # Slice k is stored in steps of k + 1 HU, of 12 at most.
    assert np.abs(enhanced.volume.array - series.volume.array).max() <= 6
    assert enhanced.volume.affine == pytest.approx(series.volume.affine)
    assert (enhanced.files, series.files) == (1, 12)


def at(n: int, group: str, **elements: object) -> Edit:
    """Changes elements in a functional group of frame ``n`` (None takes it out)."""

    def edit(number: int, groups: Dataset) -> None:
        if number == n:
            for keyword, value in elements.items():
                item = getattr(groups, group)[0]
                delattr(item, keyword) if value is None else setattr(item, keyword, value)

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            at(1, "PlanePositionSequence", ImagePositionPatient=[-50, -60, 72.5]),
            r"one slice at each place, got e.dcm \(frame 2\) and e.dcm \(frame 3\)",
        ),
        (
            at(4, "PlanePositionSequence", ImagePositionPatient=[-50, -60, 92.5]),
            r"slices every 2.5 mm, got 12.5 mm between e.dcm \(frame 6\) and e.dcm \(frame 5\)",
        ),
        (at(2, "PlanePositionSequence", ImagePositionPatient=None), r"ImagePositionPatient of 3 number"),
        (at(2, "PixelValueTransformationSequence", RescaleSlope=None), r"RescaleSlope of 1 .* \(frame 3\)"),
        (at(0, "PixelValueTransformationSequence", RescaleType="Z_EFF"), r"HU, got RescaleType Z_EFF"),
    ],
)
def test_frames_that_are_no_even_stack_in_hu_are_refused_by_number(
    edit: Edit, says: str, tmp_path: Path
) -> None:
    write_enhanced(tmp_path / "e.dcm", stepped_volume(), edit)

    with pytest.raises(InputError, match=says):
        read_dicom_series(tmp_path / "e.dcm")


def test_a_file_with_fewer_frames_than_it_announces_is_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "e.dcm", stepped_volume())
    dataset = pydicom.dcmread(tmp_path / "e.dcm")
    dataset.PixelData = dataset.PixelData[: -64 * 40 * 2]
    dataset.save_as(tmp_path / "e.dcm")

    with pytest.raises(InputError, match=r"cannot be read as one|shape"):
        read_dicom_series(tmp_path / "e.dcm")


def test_padding_of_a_frame_becomes_air(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "e.dcm", stepped_volume())
    dataset = pydicom.dcmread(tmp_path / "e.dcm")
    dataset.add_new("PixelPaddingValue", "US", 0)
    dataset.save_as(tmp_path / "e.dcm")

    series = read_dicom_series(tmp_path / "e.dcm")

    # One pixel of every slice is stored as 0.
    assert series.notes == ("6 voxels of padding were set to -1000 HU.",)
    assert np.array_equal(series.volume.array[:, 0, 0], np.full(6, -1000.0))


def test_a_legacy_converted_ct_is_the_series_it_was_made_of(tmp_path: Path) -> None:
    legacy = pytest.importorskip("highdicom.legacy", reason="the extra dicom converts")
    slices = [pydicom.dcmread(path) for path in write_series(tmp_path / "series", phantom(), with_study)]
    made = legacy.LegacyConvertedEnhancedCTImage(
        slices, "1.2.3.4", 1, "1.2.3.4.5", 1, transfer_syntax_uid="1.2.840.10008.1.2.1"
    )
    made.save_as(tmp_path / "converted.dcm")

    scan = read_ct(tmp_path / "converted.dcm")

    assert np.array_equal(scan.volume.array, phantom().array)
    assert scan.volume.affine == pytest.approx(phantom().affine)


def with_study(k: int, dataset: Dataset) -> None:
    """What a converter wants to know of a slice."""
    dataset.PatientID, dataset.PatientName, dataset.PatientSex, dataset.PatientBirthDate = "1", "A^B", "", ""
    dataset.StudyInstanceUID, dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "1.2.3", "", "", ""
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = "1.2.3.9", ""
    dataset.Manufacturer, dataset.ImageType = "m", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SliceThickness, dataset.InstanceNumber = 20, k + 1


def test_an_enhanced_ct_is_no_radiograph(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "e.dcm", stepped_volume())

    with pytest.raises(InputError, match=r"projection radiograph .* of modality CT"):
        read_radiograph(tmp_path / "e.dcm")
