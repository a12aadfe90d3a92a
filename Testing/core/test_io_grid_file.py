"""NIfTI, NRRD and MetaImage headers: units other than mm, no orientation, voxels in another file."""

from pathlib import Path

import io_radiographs as radiographs
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from ct_series import phantom

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import read_volume

GREY12 = radiographs.quantised(12)


def nifti(path: Path, voxels: np.ndarray, mm: tuple[float, ...], unit: int, in_mm: float) -> Path:
    """Writes voxels of ``mm`` whose header counts in a unit of ``in_mm``, with an origin of 100 mm."""
    affine = np.diag([-mm[0], -mm[1], mm[2], 1.0])
    affine[:3, 3] = 100.0
    affine[:3] /= in_mm
    image = nib.Nifti1Image(voxels, affine)
    image.header["xyzt_units"] = unit
    nib.save(image, path)
    return path


UNITS = [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (2 | 8, 1.0), (7, 1.0)]


@pytest.mark.parametrize(("unit", "in_mm"), UNITS)
def test_a_ct_of_any_unit_is_in_mm(unit: int, in_mm: float, tmp_path: Path) -> None:
    voxels = phantom().array.astype(np.int16).transpose(2, 1, 0)

    scan = read_ct(nifti(tmp_path / "scan.nii.gz", voxels, (10.0, 10.0, 20.0), unit, in_mm))

    assert scan.volume.spacing == pytest.approx((10.0, 10.0, 20.0), rel=1e-5)
    assert scan.volume.origin == pytest.approx((-100.0, -100.0, 100.0), rel=1e-5)


@pytest.mark.parametrize(("unit", "in_mm"), UNITS)
def test_a_radiograph_of_any_unit_has_its_spacing_in_mm(unit: int, in_mm: float, tmp_path: Path) -> None:
    path = nifti(tmp_path / "f.nii", GREY12.T[..., None], (2.2, 2.2, 1.0), unit, in_mm)

    assert read_radiograph(path).spacing_mm == pytest.approx((2.2, 2.2), rel=1e-5)


@pytest.mark.parametrize(("unit", "factor"), [("um", 1000.0), ("cm", 0.1), ("mm", 1.0)])
def test_an_nrrd_with_space_units_is_in_mm(unit: str, factor: float, tmp_path: Path) -> None:
    voxels = phantom().array.astype("<i2")
    header = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 32 32 12\n"
        f"space directions: ({10 * factor},0,0) (0,{10 * factor},0) (0,0,{20 * factor})\n"
        f'space units: "{unit}" "{unit}" "{unit}"\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n\n'
    )
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + voxels.tobytes())

    assert read_volume(tmp_path / "scan.nrrd").spacing == pytest.approx((10.0, 10.0, 20.0))


def test_a_nifti_without_orientation_lies_as_itk_lays_it_and_says_so(tmp_path: Path) -> None:
    image = nib.Nifti1Image(phantom().array.astype(np.int16).transpose(2, 1, 0), None)
    image.header.set_zooms((10.0, 10.0, 20.0))
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, tmp_path / "scan.nii")

    scan = read_ct(tmp_path / "scan.nii")

    assert np.array_equal(scan.volume.affine, np.diag([10.0, 10.0, 20.0, 1.0]))
    assert "no orientation" in scan.notes[0]


@pytest.mark.parametrize("name", ["f.nii", "f.nii.gz", "f.nrrd", "f.mha"])
def test_a_radiograph_says_how_its_greys_were_found(name: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(radiographs.quantised(12)[np.newaxis])
    image.SetSpacing((2.2, 2.2, 1.0))
    sitk.WriteImage(image, str(tmp_path / name))

    form = {".gz": "NIfTI", ".nii": "NIfTI", ".nrrd": "NRRD", ".mha": "MetaImage"}[Path(name).suffix]
    assert read_radiograph(tmp_path / name).greys == f"uint16 {form}"


def test_a_radiograph_in_a_nifti_without_orientation_says_so(tmp_path: Path) -> None:
    path = radiographs.write_nifti(tmp_path / "f.nii", radiographs.quantised(12).T[:, :, np.newaxis], None)

    radiograph = read_radiograph(path)

    assert any("no orientation" in note for note in radiograph.notes)
    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (
            "f.nhdr",
            "NRRD0004\ntype: uint16\ndimension: 2\nsizes: 128 160\nencoding: raw\ndata file: gone.raw\n",
        ),
        (
            "f.nhdr",
            "NRRD0004\ntype: uint16\ndimension: 2\nsizes: 128 160\nencoding: raw\ndatafile: gone.raw\n",
        ),
        (
            "f.nhdr",
            "NRRD0004\ntype: uint16\ndimension: 3\nsizes: 128 160 1\nencoding: raw\n"
            "data file: LIST\ngone.raw\n",
        ),
        (
            "f.mhd",
            "ObjectType = Image\nNDims = 2\nDimSize = 128 160\nElementType = MET_USHORT\n"
            "ElementDataFile = gone.raw\n",
        ),
    ],
)
def test_voxels_in_a_file_that_is_missing_are_named(name: str, header: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(header)

    with pytest.raises(InputError, match=r"in gone\.raw, which is missing"):
        read_radiograph(tmp_path / name)
