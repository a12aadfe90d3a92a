"""Volumes on disk: RAS in NIfTI, LPS here; the same volume, the same bytes; failures leave nothing."""

import gzip
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.volume import Volume, axial_affine


def small_volume(dtype: str = "float32") -> Volume:
    """(4, 5, 6) with one bright voxel: superior, anterior, on the patient's left."""
    array = np.full((4, 5, 6), -1000, dtype)
    array[3, 0, 5] = 300
    return Volume(array, axial_affine((4, 5, 6), (40.0, 25.0, 12.0), centre_lps=(10.0, -20.0, 30.0)))


def test_a_voxel_on_the_left_lies_at_negative_ras_x(tmp_path: Path) -> None:
    write_volume(small_volume(), tmp_path / "v.nii.gz", np.int16)

    image = nib.load(tmp_path / "v.nii.gz")
    index = np.argwhere(np.asarray(image.dataobj) == 300)
    assert index.tolist() == [[5, 0, 3]]
    # LPS centre of the voxel: x = 10 + 2.5 * 2, y = -20 - 2 * 5, z = 30 + 1.5 * 10; RAS negates x and y.
    assert image.affine @ [5, 0, 3, 1] == pytest.approx([-15.0, 30.0, 45.0, 1.0])
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")


def test_both_codes_say_scanner_and_the_unit_is_mm(tmp_path: Path) -> None:
    write_volume(small_volume(), tmp_path / "v.nii", np.int16)

    header = nib.load(tmp_path / "v.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert np.allclose(header.get_sform(), header.get_qform())
    assert header.get_data_dtype() == np.int16
    assert header.get_slope_inter() in ((1.0, 0.0), (None, None))


def test_itk_reads_the_same_place(tmp_path: Path) -> None:
    volume = small_volume()
    write_volume(volume, tmp_path / "v.nii.gz", np.int16)

    image = sitk.ReadImage(str(tmp_path / "v.nii.gz"))
    assert image.GetOrigin() == pytest.approx(volume.origin)
    assert image.GetSpacing() == pytest.approx((2.0, 5.0, 10.0))
    assert image.GetPixel(5, 0, 3) == 300


def test_hounsfield_units_are_rounded_to_even_and_clipped(tmp_path: Path) -> None:
    array = np.array([-1000.4, -0.6, 0.5, 1.5, 40000.0, -40000.0]).reshape(1, 1, 6)
    volume = Volume(array, axial_affine((1, 1, 6), (1.0, 1.0, 6.0)))

    write_volume(volume, tmp_path / "v.nii", np.int16)
    write_volume(volume, tmp_path / "l.nii", np.uint8)

    assert read_volume(tmp_path / "v.nii").array.ravel().tolist() == [-1000, -1, 0, 2, 32767, -32768]
    assert read_volume(tmp_path / "l.nii").array.ravel().tolist() == [0, 0, 0, 2, 255, 0]


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32"])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_what_is_written_is_read_back(dtype: str, name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    array = random.integers(0, 200, (4, 5, 6)).astype(dtype)
    oblique = axial_affine((4, 5, 6), (40.0, 25.0, 12.0))
    turn = np.deg2rad(20)
    oblique[:2, :2] = (
        np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ oblique[:2, :2]
    )

    write_volume(Volume(array, oblique), tmp_path / name, dtype)
    again = read_volume(tmp_path / name)

    assert again.array.dtype == dtype
    assert np.array_equal(again.array, array)
    assert np.allclose(again.affine, oblique, atol=1e-5)


def test_two_writings_are_the_same_bytes(tmp_path: Path) -> None:
    write_volume(small_volume(), tmp_path / "one.nii.gz", np.int16)
    time.sleep(1.1)  # gzip's clock counts seconds
    write_volume(small_volume(), tmp_path / "two.nii.gz", np.int16)

    first = (tmp_path / "one.nii.gz").read_bytes()
    assert first == (tmp_path / "two.nii.gz").read_bytes()
    assert first[4:8] == b"\0\0\0\0"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_any_form_is_read_as_stored_with_an_lps_affine(suffix: str, tmp_path: Path) -> None:
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 5.0, 10.0))
    image.SetOrigin((1.0, 2.0, 3.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    path = tmp_path / f"v{suffix}"
    sitk.WriteImage(image, str(path))

    volume = read_volume(path)

    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, array)
    assert volume.affine @ [5, 1, 2, 1] == pytest.approx(
        [*image.TransformIndexToPhysicalPoint((5, 1, 2)), 1.0], abs=1e-4
    )


def test_a_scaled_nifti_is_read_in_real_values(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.array([[[0, 100]]], np.int16), np.eye(4))
    image.header.set_slope_inter(2.0, -1000.0)
    nib.save(image, tmp_path / "v.nii")

    assert read_volume(tmp_path / "v.nii").array.ravel().tolist() == [-1000.0, -800.0]


def test_the_written_volume_is_not_touched(tmp_path: Path) -> None:
    volume = small_volume()
    before = volume.array.copy()

    write_volume(volume, tmp_path / "v.nii.gz", np.uint8)

    assert np.array_equal(volume.array, before)


def test_voxels_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    volume = small_volume()
    volume.array[0, 0, 0] = np.nan

    with pytest.raises(InputError, match="finite"):
        write_volume(volume, tmp_path / "v.nii.gz", np.int16)
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got v\.nrrd"):
        write_volume(small_volume(), tmp_path / "v.nrrd", np.int16)
    (tmp_path / "v.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"got v\.png"):
        read_volume(tmp_path / "v.png")


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        write_volume(small_volume(), tmp_path / "missing" / "v.nii.gz", np.int16)
    (tmp_path / "v.nii.gz").mkdir()
    with pytest.raises(OutputError):
        write_volume(small_volume(), tmp_path / "v.nii.gz", np.int16)
    assert [path.name for path in tmp_path.iterdir()] == ["v.nii.gz"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "v.nii.gz.partial").symlink_to("/dev/full")

    with pytest.raises(OutputError, match="No space left"):
        write_volume(small_volume(), tmp_path / "v.nii.gz", np.int16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_damaged_volume_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{suffix}"
    random = np.random.default_rng(0).integers(0, 30000, (10, 20, 30)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(random), str(path))
    path.write_bytes(path.read_bytes()[:5000])

    with pytest.raises(InputError, match=f"v{suffix}"):
        read_volume(path)


def test_what_is_no_single_volume_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), np.eye(4)), tmp_path / "four.nii")
    sitk.WriteImage(sitk.Image([6, 5], sitk.sitkInt16), str(tmp_path / "two.mha"))
    sitk.WriteImage(sitk.Image([6, 5, 4], sitk.sitkVectorUInt8, 3), str(tmp_path / "colour.nrrd"))

    for name in ("four.nii", "two.mha", "colour.nrrd"):
        with pytest.raises(InputError, match="three axes and one channel"):
            read_volume(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "nothing.nii")


def test_the_gzip_holds_the_plain_file(tmp_path: Path) -> None:
    write_volume(small_volume(), tmp_path / "v.nii.gz", np.int16)
    write_volume(small_volume(), tmp_path / "v.nii", np.int16)

    assert gzip.decompress((tmp_path / "v.nii.gz").read_bytes()) == (tmp_path / "v.nii").read_bytes()
