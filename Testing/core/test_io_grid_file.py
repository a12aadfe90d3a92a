"""NIfTI, NRRD and MetaImage headers: units other than mm, no orientation, voxels in another file."""

import bz2
import struct
from pathlib import Path

import io_radiographs as radiographs
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from ct_series import phantom

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.radiograph import radiographs_below, read_radiograph
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


def test_a_unit_that_no_code_stands_for_is_noted(tmp_path: Path) -> None:
    path = nifti(tmp_path / "f.nii", GREY12.T[..., None], (2.2, 2.2, 1.0), 7, 1.0)

    assert read_radiograph(path).notes == (
        "The NIfTI header's unit of length has the code 7, which is none; mm were taken.",
    )


def test_a_qform_that_mirrors_the_sform_is_noted_and_the_sform_believed(tmp_path: Path) -> None:
    image = nib.Nifti1Image(GREY12.T[..., None], np.diag([-2.2, -2.2, 1.0, 1.0]))
    image.set_qform(np.diag([2.2, -2.2, 1.0, 1.0]), 1)
    image.set_sform(np.diag([-2.2, -2.2, 1.0, 1.0]), 1)
    nib.save(image, tmp_path / "f.nii")

    radiograph = read_radiograph(tmp_path / "f.nii")

    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006
    assert radiograph.notes == (
        "The NIfTI header disagrees with itself: axes run to LPS by its sform, to RPS by its qform; the "
        "sform was believed: compare left and right.",
    )


def changed(path: Path, place: int, *words: float | int) -> Path:
    """Writes 32-bit numbers into the header of a NIfTI."""
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{len(words)}f", content, place, *words)
    path.write_bytes(bytes(content))
    return path


VOX_OFFSET, SROW = 108, 280


def test_voxels_that_would_begin_within_the_header_are_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "f.nii", GREY12.T[..., None], (2.2, 2.2, 1.0), 2, 1.0)

    with pytest.raises(InputError, match=r"behind the NIfTI header, got vox_offset 0 in f\.nii"):
        read_radiograph(changed(path, VOX_OFFSET, 0.0))


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_ct_whose_axes_have_no_length_is_refused_by_name(value: float, tmp_path: Path) -> None:
    voxels = phantom().array.astype(np.int16).transpose(2, 1, 0)
    path = nifti(tmp_path / "scan.nii", voxels, (10.0, 10.0, 20.0), 2, 1.0)

    with pytest.raises(InputError, match=r"axes with a length in mm, got a header without in scan\.nii"):
        read_ct(changed(path, SROW, *[value] * 12))


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


def test_an_unknown_unit_of_an_nrrd_is_noted(tmp_path: Path) -> None:
    radiographs.write_itk(tmp_path / "f.nrrd", GREY12, (1, 0, 0, 1), (2.2, 2.2))
    content = (tmp_path / "f.nrrd").read_bytes()
    assert content.count(b"space origin") == 1
    units = b'space units: "furlong" "furlong"\nspace origin'
    (tmp_path / "f.nrrd").write_bytes(content.replace(b"space origin", units))

    radiograph = read_radiograph(tmp_path / "f.nrrd")

    assert radiograph.notes == ("The unit of length furlong is not known; mm were taken.",)
    assert radiograph.spacing_mm == pytest.approx((2.2, 2.2))


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


CUT = {
    "cxr.mhd": "ObjectType = Image\nNDims = 2\nDimSize = 128 160\nElementType = MET_USHORT\n"
    "ElementDataFile = cxr.raw\n",
    "cxr.nhdr": "NRRD0004\ntype: ushort\ndimension: 2\nsizes: 128 160\nendian: little\nencoding: raw\n"
    "data file: cxr.raw\n\n",
}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_data_file_is_named_without_a_word_on_the_terminal(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(CUT[name])
    (tmp_path / "cxr.raw").write_bytes(radiographs.quantised(12).tobytes()[:-999])

    with pytest.raises(InputError, match=rf"40960 bytes, got 39961 in the data of {name}, cxr\.raw: it"):
        read_radiograph(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_an_encoding_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "cxr.nhdr").write_text(CUT["cxr.nhdr"].replace("encoding: raw", "encoding: bzip2"))
    (tmp_path / "cxr.raw").write_bytes(bz2.compress(radiographs.quantised(12).tobytes()))

    with pytest.raises(InputError, match=r"encoding raw, gzip or ascii, got bzip2 in cxr\.nhdr"):
        read_radiograph(tmp_path / "cxr.nhdr")


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_along_the_fifth_axis_of_a_nifti_is_read_as_itk_writes_it(
    channels: int, tmp_path: Path
) -> None:
    pixels = np.dstack([radiographs.quantised(8)] * 3 + [np.full((160, 128), 255, np.uint8)])
    image = sitk.GetImageFromArray(pixels[None, ..., :channels], isVector=True)
    image.SetSpacing((2.2, 2.2, 1.0))
    sitk.WriteImage(image, str(tmp_path / "cxr.nii.gz"))

    radiograph = read_radiograph(tmp_path / "cxr.nii.gz")

    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006
    assert radiograph.spacing_mm == pytest.approx((2.2, 2.2))


def write_pair(header: Path, voxels: np.ndarray, kind: type, mm: tuple[float, ...]) -> Path:
    """Writes ``header`` and the .img beside it; NIfTI with codes, Analyze 7.5 without any orientation."""
    affine = np.diag([-mm[0], -mm[1], mm[2], 1.0])
    image = kind(voxels, affine if kind is nib.Nifti1Pair else None)
    image.header.set_zooms(mm[: voxels.ndim])
    nib.save(image, header)
    return header


PAIRS = [nib.Nifti1Pair, nib.AnalyzeImage]


@pytest.mark.parametrize("suffix", [".hdr", ".img"])
def test_a_ct_in_a_nifti_pair_is_that_of_one_file_whichever_half_is_named(
    suffix: str, tmp_path: Path
) -> None:
    voxels = phantom().array.astype(np.int16).transpose(2, 1, 0)
    write_pair(tmp_path / "scan.hdr", voxels, nib.Nifti1Pair, (10.0, 10.0, 20.0))

    scan = read_ct(tmp_path / f"scan{suffix}")

    assert np.array_equal(scan.volume.array, phantom().array)
    assert np.allclose(scan.volume.affine, np.diag([10.0, 10.0, 20.0, 1.0]))
    assert scan.notes == ()


def test_an_analyze_ct_says_that_left_and_right_are_not_known(tmp_path: Path) -> None:
    """Analyze's axes run to the left, to anterior and to superior."""
    voxels = phantom().array.astype(np.int16).transpose(2, 1, 0)
    write_pair(tmp_path / "scan.hdr", voxels, nib.AnalyzeImage, (10.0, 10.0, 20.0))

    scan = read_ct(tmp_path / "scan.hdr")

    assert np.array_equal(scan.volume.affine, np.diag([10.0, -10.0, 20.0, 1.0]))
    assert "Analyze 7.5, which holds no orientation" in scan.notes[0]
    assert "left and right may be exchanged" in scan.notes[0]


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("suffix", [".hdr", ".hdr.gz", ".HDR"])
def test_a_radiograph_in_a_pair_is_read(kind: type, suffix: str, tmp_path: Path) -> None:
    path = write_pair(tmp_path / f"f{suffix}", GREY12.T[..., None].astype(np.int16), kind, (2.2, 2.2, 1.0))

    radiograph = read_radiograph(path)

    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006
    assert radiograph.spacing_mm == pytest.approx((2.2, 2.2))
    form = "NIfTI" if kind is nib.Nifti1Pair else "Analyze"
    assert radiograph.greys == f"int16 {form}"
    assert any("no orientation" in note for note in radiograph.notes) == (form == "Analyze")


@pytest.mark.parametrize(("kept", "gone", "what"), [(".hdr", ".img", "pixels"), (".img", ".hdr", "header")])
def test_a_pair_without_its_other_half_names_it(kept: str, gone: str, what: str, tmp_path: Path) -> None:
    write_pair(tmp_path / "f.hdr", GREY12.T[..., None].astype(np.int16), nib.Nifti1Pair, (2.2, 2.2, 1.0))
    (tmp_path / f"f{gone}").unlink()

    with pytest.raises(InputError, match=rf"the {what} of f{kept} in f{gone}, which is missing"):
        read_radiograph(tmp_path / f"f{kept}")


def test_an_analyze_unit_of_centimetres_is_read_in_mm(tmp_path: Path) -> None:
    path = write_pair(tmp_path / "f.hdr", GREY12.T.astype(np.int16)[..., None], nib.AnalyzeImage, (0.22,) * 3)
    content = bytearray(path.read_bytes())
    content[56:60] = b"cm\0\0"
    path.write_bytes(content)

    assert read_radiograph(path).spacing_mm == pytest.approx((2.2, 2.2))


def test_another_data_file_is_another_digest_of_a_ct(tmp_path: Path) -> None:
    """Headers of two patients may be the same to the byte."""
    digests = set()
    voxels = phantom().array.astype(np.int16).transpose(2, 1, 0)
    for patient, scan in (("a", voxels), ("b", voxels + (voxels == 40))):
        folder = tmp_path / patient
        folder.mkdir()
        digests.add(read_ct(write_pair(folder / "f.hdr", scan, nib.Nifti1Pair, (10.0, 10.0, 20.0))).sha256)
        image = sitk.GetImageFromArray(scan.transpose(2, 1, 0))
        image.SetSpacing((10.0, 10.0, 20.0))
        sitk.WriteImage(image, str(folder / "f.mhd"))
        digests.add(read_ct(folder / "f.mhd").sha256)

    assert (tmp_path / "a" / "f.hdr").read_bytes() == (tmp_path / "b" / "f.hdr").read_bytes()
    assert (tmp_path / "a" / "f.mhd").read_bytes() == (tmp_path / "b" / "f.mhd").read_bytes()
    assert len(digests) == 4


def test_another_data_file_is_another_digest_of_a_radiograph(tmp_path: Path) -> None:
    """Else the result of one would pass for that of the other."""
    digests = set()
    for patient, grey in (("a", GREY12), ("b", GREY12[:, ::-1])):
        (tmp_path / patient).mkdir()
        voxels = grey.T.astype(np.int16)[..., None]
        pair = write_pair(tmp_path / patient / "f.hdr", voxels, nib.Nifti1Pair, (2.2,) * 3)
        digests.add(read_radiograph(pair).sha256)

    assert (tmp_path / "a" / "f.hdr").read_bytes() == (tmp_path / "b" / "f.hdr").read_bytes()
    assert len(digests) == 2


def test_a_folders_data_files_are_no_radiographs_of_their_own(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.hdr", GREY12.T[..., None].astype(np.int16), nib.Nifti1Pair, (2.2, 2.2, 1.0))
    sitk.WriteImage(sitk.GetImageFromArray(GREY12), str(tmp_path / "b.mhd"))
    (tmp_path / "alone.img").write_bytes(b"")

    assert [path.name for path in radiographs_below(tmp_path)] == ["a.hdr", "alone.img", "b.mhd"]


@pytest.mark.parametrize("unit", ["cm", "um", "mm"])
def test_units_of_an_nrrds_axes_and_of_a_metaimage_are_read(unit: str, tmp_path: Path) -> None:
    step = {"cm": 0.22, "um": 2200.0, "mm": 2.2}[unit]
    head = f"NRRD0004\ntype: uint16\ndimension: 2\nsizes: 128 160\nspacings: {step} {step}\n"
    tail = f'units: "{unit}" "{unit}"\nendian: little\nencoding: raw\n\n'
    (tmp_path / "f.nrrd").write_bytes((head + tail).encode() + GREY12.astype("<u2").tobytes())
    head = f"ObjectType = Image\nNDims = 2\nDimSize = 128 160\nElementSpacing = {step} {step}\n"
    tail = f"DistanceUnits = {unit}\nElementType = MET_USHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "f.mha").write_bytes((head + tail).encode() + GREY12.astype("<u2").tobytes())

    for name in ("f.nrrd", "f.mha"):
        assert read_radiograph(tmp_path / name).spacing_mm == pytest.approx((2.2, 2.2))


def test_a_nifti_whose_two_sizes_disagree_says_which_was_believed(tmp_path: Path) -> None:
    image = nib.Nifti1Image(phantom().array.astype(np.int16).transpose(2, 1, 0), np.diag([-20, -20, 40, 1]))
    image.header.set_zooms((10.0, 10.0, 20.0))
    nib.save(image, tmp_path / "scan.nii")

    scan = read_ct(tmp_path / "scan.nii")

    assert scan.volume.spacing == pytest.approx((20.0, 20.0, 40.0))
    assert "voxels of 20 x 20 x 40 by its sform, of 10 x 10 x 20 by pixdim" in scan.notes[0]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("written", "called"), [("a.nii", "b.nii.gz"), ("a.nii.gz", "b.nii")])
def test_a_nifti_is_read_whether_or_not_its_name_says_that_it_is_compressed(
    kind: type, written: str, called: str, tmp_path: Path
) -> None:
    voxels = phantom().array.astype(np.int16).transpose(2, 1, 0)
    nib.save(kind(voxels, np.diag([-10, -10, 20, 1])), tmp_path / written)
    (tmp_path / written).rename(tmp_path / called)

    scan = read_ct(tmp_path / called)

    assert np.array_equal(scan.volume.array, phantom().array)
    assert scan.volume.spacing == pytest.approx((10.0, 10.0, 20.0))
