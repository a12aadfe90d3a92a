"""DICOM files without preamble and suffix are found out by their elements; other files are not."""

from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import pydicom
import pytest
from ct_series import phantom, write_series
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset

from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.dicom_file import is_dicom
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.viewer.upload import check_kind

PREAMBLE = 132
SYNTAXES = [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian]


def without_preamble(path: Path, meta: bool = True) -> Path:
    """Cuts preamble and prefix off, and the file meta group too."""
    content = path.read_bytes()[PREAMBLE:]
    if not meta:
        first = [content.find(tag) for tag in (b"\x08\0\x16\0", b"\0\x08\0\x16")]
        content = content[max(first) :]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("meta", [True, False], ids=["with meta", "bare"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=["implicit", "explicit", "big endian"])
def test_a_file_without_preamble_and_suffix_is_read(syntax: str, meta: bool, tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "1.2.840.99.5.1", syntax=syntax)
    without_preamble(path, meta)

    assert is_dicom(path)
    check_kind(path)
    assert np.abs(read_radiograph(path).pixels - radiographs.expected_pixels()).mean() < 0.006
    assert read_radiograph(tmp_path).name == path.name


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_a_raster_image_that_is_named_dcm_is_read_by_its_content(form: str, tmp_path: Path) -> None:
    Image.fromarray(radiographs.quantised(8)).save(tmp_path / "f.dcm", form)

    assert not is_dicom(tmp_path / "f.dcm")
    pixels = read_radiograph(tmp_path / "f.dcm").pixels
    assert np.abs(pixels - radiographs.expected_pixels()).mean() < 0.01


def test_a_dicom_with_the_preamble_of_a_tiff_is_dicom(tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f")
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])

    assert is_dicom(path)
    assert read_radiograph(path).photometric == "MONOCHROME2"


def test_a_ct_series_without_preambles_is_read(tmp_path: Path) -> None:
    for n, path in enumerate(write_series(tmp_path, phantom())):
        without_preamble(path).rename(tmp_path / f"IM{n:04d}")

    assert np.array_equal(read_ct(tmp_path).volume.array, phantom().array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x00",
        b"This is a letter, not a radiograph.\n" * 50,
        b"\x08\x00\x05\x00" + bytes(range(256)),
        bytes(400),
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        b"\x02\x00\x02\x00" * 40,
    ],
)
def test_other_bytes_are_no_dicom(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(content)

    assert not is_dicom(tmp_path / "IM0001")


COMPRESSED = {
    "JPEG baseline": (uid.JPEGBaseline8Bit, 8, "JPEG Baseline"),
    "JPEG lossless": (uid.JPEGLosslessSV1, 12, "JPEG Lossless"),
    "JPEG-LS": (uid.JPEGLSLossless, 12, "JPEG-LS"),
    "JPEG 2000": (uid.JPEG2000Lossless, 12, "JPEG 2000"),
    "RLE": (uid.RLELossless, 12, "RLE Lossless"),
}


@pytest.mark.parametrize("form", COMPRESSED)
def test_compressed_pixels_of_a_file_without_meta_group_are_known_by_their_bytes(
    form: str, tmp_path: Path
) -> None:
    syntax, bits, name = COMPRESSED[form]
    path = radiographs.write_dicom(tmp_path / "1.2.3.4", syntax=syntax, bits=bits)
    without_preamble(path, meta=False)

    radiograph = read_radiograph(path)

    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006
    assert len(radiograph.notes) == 1
    assert radiograph.notes[0].startswith(
        f"The header names no transfer syntax; the pixels are compressed ({name}"
    )


@pytest.mark.parametrize(
    ("said", "meant", "bits", "words"),
    [
        (uid.ExplicitVRLittleEndian, uid.JPEGBaseline8Bit, 8, "compressed (JPEG Baseline"),
        (uid.JPEGLosslessSV1, uid.ExplicitVRLittleEndian, 12, "not compressed"),
    ],
)
def test_a_transfer_syntax_that_the_pixels_contradict_is_noted_and_the_pixels_are_believed(
    said: str, meant: str, bits: int, words: str, tmp_path: Path
) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm", syntax=meant, bits=bits)
    content = path.read_bytes()
    value = meant.encode() + b"\0" * (len(meant) % 2)
    other = said.encode() + b"\0" * (len(said) % 2)
    element = b"\x02\0\x10\0UI"
    written = element + len(value).to_bytes(2, "little") + value
    assert content.count(written) == 1
    path.write_bytes(content.replace(written, element + len(other).to_bytes(2, "little") + other))

    radiograph = read_radiograph(path)

    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006
    assert words in radiograph.notes[0]
    assert radiograph.notes[0].startswith("The header says the transfer syntax ")


@pytest.mark.parametrize("meta", [True, False], ids=["with meta", "bare"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=["implicit", "explicit", "big endian"])
def test_a_ct_series_of_any_syntax_without_preambles_is_read(syntax: str, meta: bool, tmp_path: Path) -> None:
    big_endian = syntax == uid.ExplicitVRBigEndian
    for n, path in enumerate(write_series(tmp_path, phantom())):
        dataset = pydicom.dcmread(path)
        if big_endian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        implicit = syntax == uid.ImplicitVRLittleEndian
        pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=not big_endian)
        without_preamble(path, meta).rename(tmp_path / f"IM{n:04d}")

    scan = read_ct(tmp_path)

    assert np.array_equal(scan.volume.array, phantom().array)
    assert scan.notes == ()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=["implicit", "explicit", "big endian"])
def test_decimal_commas_are_read_as_points_and_noted(syntax: str, tmp_path: Path) -> None:
    path = radiographs.write_dicom(
        tmp_path / "f.dcm",
        4095 - radiographs.quantised(12),
        syntax,
        ImagerPixelSpacing=["2.25", "2.25"],
        DistanceSourceToDetector="1800.5",
        DistanceSourceToPatient="1500.5",
        RescaleSlope="-1.0",
        RescaleIntercept="4095.0",
    )
    radiographs.with_decimal_commas(path, "2.25", "1800.5", "1500.5", "-1.0", "4095.0")

    radiograph = read_radiograph(path)

    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006
    assert radiograph.spacing_mm == (2.25, 2.25)
    assert radiograph.magnification == pytest.approx(1800.5 / 1500.5)
    assert radiograph.notes == (
        "Decimal commas were read as points: DistanceSourceToDetector, DistanceSourceToPatient, "
        "ImagerPixelSpacing, RescaleIntercept, RescaleSlope.",
    )


@pytest.mark.parametrize("place", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_decimal_commas_in_functional_groups_are_read(place: str, tmp_path: Path) -> None:
    measures = Dataset()
    measures.PixelSpacing = ["2.25", "2.25"]
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    path = radiographs.write_dicom(tmp_path / "f.dcm", **{place: [groups]})
    radiographs.with_decimal_commas(path, "2.25")

    radiograph = read_radiograph(path)

    assert radiograph.spacing_mm == (2.25, 2.25)
    assert radiograph.notes == ("Decimal commas were read as points: PixelSpacing.",)


@pytest.mark.parametrize("written", ["2.25,2.25", "1,002.25", "2,2,5"])
def test_a_comma_that_cannot_be_a_decimal_point_is_not_guessed(written: str, tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm", ImagerPixelSpacing=["2.25", "2.25"])
    content, value = path.read_bytes(), written.encode().ljust(9)
    path.write_bytes(content.replace(b"2.25\\2.25 ", value + b" ").replace(b"2.25\\2.25", value))

    radiograph = read_radiograph(path)

    assert radiograph.spacing_mm is None
    assert radiograph.notes == ("ImagerPixelSpacing is not two positive numbers; it was ignored.",)


def test_a_ct_series_with_decimal_commas_is_read_and_noted(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept, dataset.PixelSpacing = "-1024.0", ["10.00", "10.00"]

    for path in write_series(tmp_path, phantom(), edit):
        radiographs.with_decimal_commas(path, "-1024.0", "10.00")

    scan = read_ct(tmp_path)

    assert np.array_equal(scan.volume.array, phantom().array)
    assert scan.volume.spacing == pytest.approx((10.0, 10.0, 20.0))
    assert scan.notes == ("Decimal commas were read as points: PixelSpacing, RescaleIntercept.",)
