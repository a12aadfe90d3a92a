"""A CT of any form is read in HU; what is not HU, not finite or not there is refused by name."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_series import phantom, write_series

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import HeaderCorrection, read_ct
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume


def test_a_series_and_a_nifti_of_one_scan_are_the_same_volume(tmp_path: Path) -> None:
    volume = phantom()
    write_series(tmp_path / "series", volume)
    write_volume(volume, tmp_path / "scan.nii.gz", np.int16)

    series, nifti = read_ct(tmp_path / "series"), read_ct(tmp_path / "scan.nii.gz")

    assert np.array_equal(series.volume.array, volume.array)
    assert np.array_equal(nifti.volume.array, volume.array)
    assert series.volume.affine == pytest.approx(volume.affine)
    assert nifti.volume.affine == pytest.approx(volume.affine, abs=1e-4)
    assert (series.files, nifti.files) == (12, 1)
    assert nifti.sha256 == hashlib.sha256((tmp_path / "scan.nii.gz").read_bytes()).hexdigest()


def test_the_digest_of_a_series_is_of_its_slices_in_order(tmp_path: Path) -> None:
    paths = write_series(tmp_path, phantom())
    before = read_ct(tmp_path).sha256
    paths[3].write_bytes(paths[3].read_bytes() + b"\0\0")

    assert read_ct(tmp_path).sha256 != before


def test_a_scan_with_nan_is_refused_by_name_and_number(tmp_path: Path) -> None:
    array = phantom().array
    array[2, 3, :4] = np.nan
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)), tmp_path / "scan.nii")

    with pytest.raises(InputError, match=r"got 4 NaN or infinite of 12288 in scan\.nii"):
        read_ct(tmp_path / "scan.nii")


def test_stored_values_without_rescaling_are_refused_and_the_correction_mends_them(tmp_path: Path) -> None:
    volume = phantom()
    stored = Volume(volume.array + 1024, np.diag([1.0, 1.0, 1.0, 1.0]))
    write_volume(stored, tmp_path / "scan.nii", np.int16)

    with pytest.raises(
        InputError, match=r"Hounsfield units with air below -500, got 24 to 1064 in scan\.nii"
    ):
        read_ct(tmp_path / "scan.nii")
    mended = read_ct(tmp_path / "scan.nii", HeaderCorrection(1.0, -1024.0, (7.5, 7.5, 15.0)))

    assert np.array_equal(mended.volume.array, volume.array)
    assert mended.volume.spacing == pytest.approx((7.5, 7.5, 15.0))


def test_one_slice_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    slice_file = write_series(tmp_path, phantom())[0]

    with pytest.raises(InputError, match="Expected a CT series, got the single DICOM file"):
        read_ct(slice_file)
    with pytest.raises(InputError, match="does not exist"):
        read_ct(tmp_path / "nothing.nii.gz")


def test_one_slice_is_no_ct(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(phantom().array[6:7].transpose(2, 1, 0), np.eye(4)), tmp_path / "scan.nii")

    with pytest.raises(InputError, match=r"at least 3 slices, got 32 x 32 x 1 voxels in scan\.nii"):
        read_ct(tmp_path / "scan.nii")
