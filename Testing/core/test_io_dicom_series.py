"""A folder of DICOM slices becomes one volume in HU, at its place, or an error that names the file."""

from pathlib import Path

import numpy as np
import pytest
from ct_series import Edit, phantom, set_pixels, write_series
from io_radiographs import without_gaps
from pydicom.dataset import Dataset, FileDataset

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_series import read_dicom_series
from xray2ctpa_core.volume import Volume


def small_volume() -> Volume:
    """(6, 4, 5): HU 100 k + 10 j + i - 1000; columns 2 mm and rows 3 mm apart, slices 2.5 mm."""
    k, j, i = np.indices((6, 4, 5))
    affine = np.diag([2.0, 3.0, 2.5, 1.0])
    affine[:3, 3] = (-50.0, -60.0, 70.0)
    return Volume((100.0 * k + 10 * j + i - 1000).astype(np.float32), affine)


def test_slices_are_ordered_by_position_and_rescaled(tmp_path: Path) -> None:
    paths = write_series(tmp_path, small_volume())

    series = read_dicom_series(tmp_path)

    assert np.array_equal(series.volume.array, small_volume().array)
    assert series.volume.affine == pytest.approx(small_volume().affine)
    assert list(series.files) == paths != sorted(paths)
    assert series.notes == ()


def test_the_affine_says_where_a_voxel_lies(tmp_path: Path) -> None:
    write_series(tmp_path, small_volume())

    affine = read_dicom_series(tmp_path).volume.affine

    # Column 4, row 1, slice 2: -50 + 4 * 2, -60 + 1 * 3, 70 + 2 * 2.5.
    assert affine @ [4, 1, 2, 1] == pytest.approx([-42.0, -57.0, 75.0, 1.0])


def test_a_patient_lying_the_other_way_round_keeps_true_directions(tmp_path: Path) -> None:
    volume = small_volume()
    prone = volume.affine.copy()
    prone[:3, 0], prone[:3, 1] = (-2.0, 0, 0), (0, -3.0, 0)
    write_series(tmp_path, Volume(volume.array, prone))

    series = read_dicom_series(tmp_path)

    assert series.volume.affine == pytest.approx(prone)
    assert np.array_equal(series.volume.array, volume.array)


def test_each_slice_has_its_own_slope_and_intercept(tmp_path: Path) -> None:
    def edit(k: int, dataset: FileDataset) -> None:
        set_pixels(dataset, np.full((4, 5), 10, np.uint16))
        dataset.RescaleSlope, dataset.RescaleIntercept = k + 1, -1000 - k

    write_series(tmp_path, small_volume(), edit)

    # 10 (k + 1) - 1000 - k
    assert read_dicom_series(tmp_path).volume.array[:, 0, 0].tolist() == [-990, -981, -972, -963, -954, -945]


def test_padding_becomes_air_and_is_counted(tmp_path: Path) -> None:
    def edit(k: int, dataset: FileDataset) -> None:
        stored = np.full((4, 5), 1024, np.uint16)
        stored[0, :2] = 63000
        set_pixels(dataset, stored)
        dataset.PixelPaddingValue = 63000

    write_series(tmp_path, small_volume(), edit)

    series = read_dicom_series(tmp_path)

    assert series.volume.array[3, 0].tolist() == [-1000, -1000, 0, 0, 0]
    assert series.notes == ("12 voxels of padding were set to -1000 HU.",)


def test_gantry_tilt_stays_in_the_affine(tmp_path: Path) -> None:
    tilted = small_volume()
    tilted.affine[:3, 2] = (0.0, 1.0, 2.5)
    write_series(tmp_path, tilted)

    series = read_dicom_series(tmp_path)

    assert series.volume.affine == pytest.approx(tilted.affine)
    # atan(1 / 2.5)
    assert series.notes == (
        "The gantry was tilted by 21.8 degrees; the affine holds the slices' true shift.",
    )


def at(slices: tuple[int, ...], **elements: object) -> Edit:
    """Sets elements of some slices; None deletes."""

    def edit(k: int, dataset: FileDataset) -> None:
        for keyword, value in elements.items() if k in slices else ():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return edit


def grow(k: int, dataset: FileDataset) -> None:
    if k == 2:
        set_pixels(dataset, np.zeros((5, 5), np.uint16))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            at((2,), ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
            r"one orientation in the series.*in 077-2.dcm",
        ),
        (at((2,), PixelSpacing=[3, 2.1]), r"one pixel spacing in the series.*in 077-2.dcm"),
        (grow, r"one size in the series.*\[5, 5\] in 077-2.dcm"),
        (at((2,), ImagePositionPatient=[-50, -60, 72.5]), r"040-1.dcm and 077-2.dcm at one"),
        (
            at((2,), ImagePositionPatient=[-50, -60, 76.3]),
            r"slices every 2.5 mm, got 3.8 mm between 040-1.dcm",
        ),
        (
            at((5,), ImagePositionPatient=[-50, -60, 87.5]),
            r"7.5 mm between 050-4.dcm and 087-5.dcm: 2 missing",
        ),
        (at((2,), ImagePositionPatient=[-40, -60, 75.0]), r"along one line, got 077-2.dcm 10.00 mm away"),
        (
            at((2,), ImagePositionPatient=None),
            r"ImagePositionPatient of 3 number\(s\), got None in 077-2.dcm",
        ),
        (at((2,), RescaleSlope=None), r"RescaleSlope of 1 number\(s\), got None in 077-2.dcm"),
        (at((2,), PixelSpacing=[3, 0]), r"positive PixelSpacing, got .* in 077-2.dcm"),
        (at((2,), ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), r"perpendicular .* in 077-2.dcm"),
        (at((2,), Modality="DX"), r"CT slices, got 077-2.dcm of modality DX"),
        (at((2,), SeriesInstanceUID="1.2.3"), r"one series, got 2 in .*077-2.dcm to 1.2.3"),
        (at((2,), PixelData=None), r"077-2.dcm without complete pixel data"),
    ],
)
def test_what_is_no_even_stack_of_slices_is_refused_by_file(edit: Edit, says: str, tmp_path: Path) -> None:
    write_series(tmp_path, small_volume(), edit)

    with pytest.raises(InputError, match=says):
        read_dicom_series(tmp_path)


def test_slices_shifted_far_along_themselves_are_no_gantry_tilt(tmp_path: Path) -> None:
    tilted = small_volume()
    tilted.affine[:3, 2] = (0.0, 4.0, 2.5)
    write_series(tmp_path, tilted)

    with pytest.raises(InputError, match="shift of 58 degrees"):
        read_dicom_series(tmp_path)


def test_a_missing_slice_in_the_middle_is_counted(tmp_path: Path) -> None:
    write_series(tmp_path, small_volume())[2].unlink()

    with pytest.raises(InputError, match=r"5 mm between 040-1.dcm and 013-3.dcm: 1 missing"):
        read_dicom_series(tmp_path)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path: Path) -> None:
    fine = small_volume()
    fine.affine[2, 2] = 0.625

    def edit(k: int, dataset: FileDataset) -> None:
        dataset.ImagePositionPatient = [-50, -60, round(70 + 0.625 * k, 1)]

    write_series(tmp_path, fine, edit)

    assert read_dicom_series(tmp_path).volume.spacing[2] == pytest.approx(0.62)  # (73.1 - 70.0) / 5


def test_a_folder_without_slices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 3 slices, got 0"):
        read_dicom_series(tmp_path)


# --- What radiographs and CTs have in common (io/dicom_pixels.py, io/dicom_file.py) -------------------------


def test_slices_of_enhanced_objects_keep_their_header_in_functional_groups(tmp_path: Path) -> None:
    """Spacing, place, orientation and rescaling are moved from the top level into functional groups."""
    moved = {
        "PixelMeasuresSequence": ("PixelSpacing",),
        "PlanePositionSequence": ("ImagePositionPatient",),
        "PlaneOrientationSequence": ("ImageOrientationPatient",),
        "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    }

    def edit(k: int, dataset: Dataset) -> None:
        groups = Dataset()
        for sequence, keywords in moved.items():
            item = Dataset()
            for keyword in keywords:
                item[keyword] = dataset[keyword]
                del dataset[keyword]
            setattr(groups, sequence, [item])
        dataset.PerFrameFunctionalGroupsSequence = [groups]

    write_series(tmp_path, phantom(), edit)

    volume = read_dicom_series(tmp_path).volume
    assert np.array_equal(volume.array, phantom().array)
    assert volume.affine == pytest.approx(phantom().affine)


def test_slices_in_the_upper_bits_are_brought_down(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(32, 32)
        set_pixels(dataset, stored << 4)
        dataset.BitsStored, dataset.HighBit = 12, 15

    write_series(tmp_path, phantom(), edit)

    assert np.array_equal(read_dicom_series(tmp_path).volume.array, phantom().array)


def test_slices_without_a_gap_between_pixels_are_unpacked(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        dataset.PixelData = without_gaps(np.frombuffer(dataset.PixelData, np.uint16), 12)
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 12, 12, 11

    write_series(tmp_path, phantom(), edit)

    assert np.array_equal(read_dicom_series(tmp_path).volume.array, phantom().array)


def test_padding_of_the_other_sign_becomes_air(tmp_path: Path) -> None:
    """PixelPaddingValue -2000 as signed beside unsigned pixels of 63536."""

    def edit(k: int, dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(32, 32).copy()
        stored[:4] = 63536
        set_pixels(dataset, stored)
        dataset.add_new("PixelPaddingValue", "SS", -2000)

    write_series(tmp_path, phantom(), edit)

    series = read_dicom_series(tmp_path)
    assert (series.volume.array[:, :4] == -1000).all()
    assert "padding" in series.notes[0]


def test_a_slope_of_0_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, phantom(), lambda k, dataset: setattr(dataset, "RescaleSlope", 0))

    with pytest.raises(InputError, match="RescaleSlope other than 0"):
        read_dicom_series(tmp_path)


@pytest.mark.parametrize("metal", [4100, 5000, 9000])
def test_metal_beyond_the_stored_bits_keeps_its_hu(metal: int, tmp_path: Path) -> None:
    """12 bits stored, and an implant above 4095 in soft tissue and in lung."""

    def implant(k: int, dataset: Dataset) -> None:
        stored = (phantom().array[k] + 1024).astype(np.uint16)
        stored[14:18, 10:12] = stored[14:16, 20:22] = metal
        dataset.BitsStored, dataset.HighBit = 12, 11
        set_pixels(dataset, stored)

    write_series(tmp_path, phantom(), implant)
    series = read_dicom_series(tmp_path)

    assert (series.volume.array[:, 14:16, 10:12] == metal - 1024).all()
    assert (series.volume.array[:, 14:16, 20:22] == metal - 1024).all()
    assert series.notes == ("The pixels use more than the 12 bits of BitsStored; all bits were read.",)


def test_floating_point_pixels_are_named(tmp_path: Path) -> None:
    def with_floats(k: int, dataset: Dataset) -> None:
        del dataset.PixelData
        dataset.FloatPixelData = phantom().array[k].astype("<f4").tobytes()

    write_series(tmp_path, phantom(), with_floats)

    with pytest.raises(InputError, match="whole numbers as pixels, got floating-point ones"):
        read_dicom_series(tmp_path)


def test_a_modality_lut_beside_the_rescaling_is_noted(tmp_path: Path) -> None:
    def with_lut(k: int, dataset: Dataset) -> None:
        item = Dataset()
        item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [2, 0, 16], b"\0\0\1\0", "HU"
        dataset.ModalityLUTSequence = [item]

    write_series(tmp_path, phantom(), with_lut)
    series = read_dicom_series(tmp_path)

    assert "modality LUT beside its rescale slope" in series.notes[0]
    assert np.array_equal(series.volume.array, phantom().array)
