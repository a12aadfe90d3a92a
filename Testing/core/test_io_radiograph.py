"""Radiographs: one anatomy in every file form gives the same pixels; what is unusable is refused in words."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import io_radiographs as radiographs
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset

from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.volume import Radiograph

ROWS, COLUMNS = radiographs.ROWS, radiographs.COLUMNS
GREY8, GREY12, GREY16 = radiographs.quantised(8), radiographs.quantised(12), radiographs.quantised(16)
RGB8 = np.repeat(GREY8[..., None], 3, axis=2)
OPAQUE8 = np.full_like(GREY8, 255)
CORONAL_RAS = np.array([[-2.2, 0, 0, 0], [0, 0, 1, 0], [0, -2.2, 0, 0], [0, 0, 0, 1.0]])


def voi_lut() -> list[Dataset]:
    """A VOI LUT that halves twelve bits to eleven."""
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.add_new("LUTData", "US", [value // 2 for value in range(4096)])
    return [item]


def palette_image() -> Image.Image:
    """The picture with its greys shuffled and a palette that puts them back."""
    image = Image.fromarray(255 - GREY8, mode="P")
    image.putpalette([255 - value for value in range(256) for _ in range(3)])
    return image


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def signed(picture: np.ndarray) -> np.ndarray:
    return (picture.astype(np.int32) - 1000).astype(np.int16)


#: Name of a form -> what writes the picture in it; every one must read as the same radiograph.
FORMS: dict[str, radiographs.Writer] = {
    "dicom implicit": lambda p: radiographs.write_dicom(p / "f.dcm", syntax=uid.ImplicitVRLittleEndian),
    "dicom explicit": lambda p: radiographs.write_dicom(p / "f.dcm"),
    "dicom big endian": lambda p: radiographs.write_dicom(p / "f.dcm", syntax=uid.ExplicitVRBigEndian),
    "dicom deflated": lambda p: radiographs.write_dicom(
        p / "f.dcm", syntax=uid.DeflatedExplicitVRLittleEndian
    ),
    "dicom rle": lambda p: radiographs.write_dicom(p / "f.dcm", syntax=uid.RLELossless),
    "dicom jpeg baseline": lambda p: radiographs.write_dicom(
        p / "f.dcm", syntax=uid.JPEGBaseline8Bit, bits=8
    ),
    "dicom jpeg lossless": lambda p: radiographs.write_dicom(
        p / "f.dcm", GREY16, syntax=uid.JPEGLosslessSV1, bits=16
    ),
    "dicom jpeg lossless 8 bit": lambda p: radiographs.write_dicom(
        p / "f.dcm", syntax=uid.JPEGLosslessSV1, bits=8
    ),
    "dicom jpeg lossless with negative slope": lambda p: radiographs.write_dicom(
        p / "f.dcm",
        65535 - GREY16,
        syntax=uid.JPEGLosslessSV1,
        bits=16,
        RescaleSlope="-1",
        RescaleIntercept="65535",
    ),
    "dicom jpeg lossless monochrome1": lambda p: radiographs.write_dicom(
        p / "f.dcm",
        65535 - GREY16,
        syntax=uid.JPEGLosslessSV1,
        bits=16,
        PhotometricInterpretation="MONOCHROME1",
    ),
    "dicom jpeg 2000": lambda p: radiographs.write_dicom(p / "f.dcm", syntax=uid.JPEG2000),
    "dicom jpeg 2000 lossless": lambda p: radiographs.write_dicom(p / "f.dcm", syntax=uid.JPEG2000Lossless),
    "dicom 8 bit": lambda p: radiographs.write_dicom(p / "f.dcm", bits=8),
    "dicom 16 bit": lambda p: radiographs.write_dicom(p / "f.dcm", bits=16),
    "dicom signed": lambda p: radiographs.write_dicom(p / "f.dcm", signed(GREY12), bits=13),
    "dicom without suffix": lambda p: radiographs.write_dicom(p / "IM0001"),
    "dicom monochrome1": lambda p: radiographs.write_dicom(
        p / "f.dcm", 4095 - GREY12, PhotometricInterpretation="MONOCHROME1"
    ),
    "dicom monochrome1 with inverse presentation": lambda p: radiographs.write_dicom(
        p / "f.dcm", 4095 - GREY12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
    ),
    "dicom inverse presentation": lambda p: radiographs.write_dicom(
        p / "f.dcm", 4095 - GREY12, PresentationLUTShape="INVERSE"
    ),
    "dicom rescaled": lambda p: radiographs.write_dicom(
        p / "f.dcm", RescaleSlope="0.5", RescaleIntercept="-100"
    ),
    "dicom negative slope": lambda p: radiographs.write_dicom(
        p / "f.dcm", 4095 - GREY12, RescaleSlope="-1", RescaleIntercept="4095"
    ),
    "dicom window": lambda p: radiographs.write_dicom(p / "f.dcm", WindowCenter="2048", WindowWidth="4096"),
    "dicom monochrome1 window": lambda p: radiographs.write_dicom(
        p / "f.dcm",
        4095 - GREY12,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=["2048", "100"],
        WindowWidth=["4096", "200"],
    ),
    "dicom voi lut": lambda p: radiographs.write_dicom(p / "f.dcm", VOILUTSequence=voi_lut()),
    "dicom window beside the greys": lambda p: radiographs.write_dicom(
        p / "f.dcm", WindowCenter="60000", WindowWidth="10"
    ),
    "dicom rgb": lambda p: radiographs.write_dicom(
        p / "f.dcm", RGB8, bits=8, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB"
    ),
    "dicom mirrored": lambda p: radiographs.write_dicom(
        p / "f.dcm", np.ascontiguousarray(GREY12[:, ::-1]), PatientOrientation=["R", "F"]
    ),
    "dicom on its side": lambda p: radiographs.write_dicom(
        p / "f.dcm", np.ascontiguousarray(GREY12.T[:, ::-1]), PatientOrientation=["H", "L"]
    ),
    "png 8 bit": lambda p: radiographs.write_raster(p / "f.png", GREY8),
    "png 16 bit": lambda p: radiographs.write_raster(p / "f.png", GREY16),
    "png rgb": lambda p: radiographs.write_raster(p / "f.png", RGB8),
    "png rgb of 16 bit": lambda p: radiographs.write_wide_colour(
        p / "f.png", np.repeat(GREY16[..., None], 3, axis=2)
    ),
    "png rgba of 12 bit in 16": lambda p: radiographs.write_wide_colour(
        p / "f.png", np.dstack([GREY12, GREY12, GREY12, np.full_like(GREY12, 65535)])
    ),
    "png rgba opaque": lambda p: radiographs.write_raster(p / "f.png", np.dstack([RGB8, OPAQUE8])),
    "png rgba wholly transparent": lambda p: radiographs.write_raster(
        p / "f.png", np.dstack([RGB8, 0 * OPAQUE8])
    ),
    "png grey alpha": lambda p: radiographs.write_raster(
        p / "f.png", Image.merge("LA", (Image.fromarray(GREY8), Image.fromarray(OPAQUE8)))
    ),
    "png palette": lambda p: radiographs.write_raster(p / "f.png", palette_image()),
    "png exif turned": lambda p: radiographs.write_raster(
        p / "f.png", np.ascontiguousarray(np.rot90(GREY8)), exif=exif(6)
    ),
    "jpeg": lambda p: radiographs.write_raster(p / "f.jpg", GREY8, quality=95),
    "jpeg rgb": lambda p: radiographs.write_raster(p / "f.jpeg", RGB8, quality=95),
    "jpeg cmyk": lambda p: radiographs.write_raster(
        p / "f.jpg", Image.fromarray(RGB8).convert("CMYK"), quality=95
    ),
    "jpeg exif mirrored": lambda p: radiographs.write_raster(
        p / "f.jpg", np.ascontiguousarray(GREY8[:, ::-1]), quality=95, exif=exif(2)
    ),
    "jpeg exif upside down": lambda p: radiographs.write_raster(
        p / "f.jpg", np.ascontiguousarray(GREY8[::-1, ::-1]), quality=95, exif=exif(3)
    ),
    "jpeg named png": lambda p: radiographs.write_raster(p / "f.png", GREY8, format="JPEG", quality=95),
    "tiff 8 bit": lambda p: radiographs.write_raster(p / "f.tif", GREY8),
    "tiff 16 bit": lambda p: radiographs.write_raster(p / "f.tiff", GREY16),
    "tiff float": lambda p: radiographs.write_raster(p / "f.tif", radiographs.picture()),
    "tiff 16 bit white is zero": lambda p: radiographs.write_raster(
        p / "f.tif", 65535 - GREY16, tiffinfo={262: 0}
    ),
    "tiff 8 bit white is zero": lambda p: radiographs.write_raster(p / "f.tif", GREY8, tiffinfo={262: 0}),
    "tiff compressed": lambda p: radiographs.write_raster(p / "f.tif", GREY16, compression="tiff_lzw"),
    "tiff rgba": lambda p: radiographs.write_raster(p / "f.tif", np.dstack([RGB8, OPAQUE8])),
    "tiff rgb of 16 bit": lambda p: radiographs.write_wide_colour(
        p / "f.tif", np.dstack([GREY16, GREY16, GREY16])
    ),
    "tiff exif turned": lambda p: radiographs.write_raster(
        p / "f.tif", np.ascontiguousarray(np.rot90(GREY8)), exif=exif(6)
    ),
    "nrrd 2d": lambda p: radiographs.write_itk(p / "f.nrrd", GREY12, (1, 0, 0, 1), radiographs.SPACING),
    "mha 2d": lambda p: radiographs.write_itk(p / "f.mha", GREY12, (1, 0, 0, 1), radiographs.SPACING),
    "mhd with detached data": lambda p: radiographs.write_itk(
        p / "f.mhd", GREY12, (1, 0, 0, 1), radiographs.SPACING
    ),
    "nifti 2d by itk": lambda p: radiographs.write_itk(
        p / "f.nii", GREY12, (1, 0, 0, 1), radiographs.SPACING
    ),
    "nifti by itk from dicom": lambda p: radiographs.write_itk(
        p / "f.nii.gz", GREY12[None], (1, 0, 0, 0, 1, 0, 0, 0, 1), (*radiographs.SPACING, 1.0)
    ),
    "mha flipped axes": lambda p: radiographs.write_itk(
        p / "f.mha", GREY12[None, ::-1, ::-1], (-1, 0, 0, 0, -1, 0, 0, 0, 1), (*radiographs.SPACING, 1.0)
    ),
    "nrrd coronal": lambda p: radiographs.write_itk(
        p / "f.nrrd", GREY12[None], (1, 0, 0, 0, 0, 1, 0, -1, 0), (*radiographs.SPACING, 1.0)
    ),
    "nrrd coronal upwards": lambda p: radiographs.write_itk(
        p / "f.nrrd", GREY12[::-1][:, None], (1, 0, 0, 0, 1, 0, 0, 0, 1), (2.2, 1.0, 2.2)
    ),
    "nifti coronal": lambda p: radiographs.write_nifti(p / "f.nii.gz", GREY12.T[:, :, None], CORONAL_RAS),
    "nifti transposed": lambda p: radiographs.write_nifti(
        p / "f.nii.gz", GREY12[:, :, None], CORONAL_RAS[:, [1, 0, 2, 3]]
    ),
    "nifti float with scaling": lambda p: radiographs.write_nifti(
        p / "f.nii", radiographs.picture().T[..., None], CORONAL_RAS
    ),
    "nifti without orientation": lambda p: radiographs.write_nifti(p / "f.nii", GREY12.T[:, :, None], None),
}


def read(path: Path) -> Radiograph:
    """Reads with every warning an error: the library is silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_radiograph(path)


def error_of(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("form", FORMS)
def test_one_anatomy_reads_the_same_from_every_form(form: str, tmp_path: Path) -> None:
    path = FORMS[form](tmp_path)

    radiograph = read(path)

    assert radiograph.pixels.dtype == np.float32
    assert radiograph.pixels.shape == (ROWS, COLUMNS)
    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006
    # The marker is superior and on the patient's right, and in no other corner.
    assert radiograph.pixels[8:28, 6:22].min() > 0.95
    assert radiograph.pixels[8:28, -22:-6].max() < 0.8
    assert radiograph.pixels[-28:-8, 6:22].max() < 0.9
    assert radiograph.name == path.name
    if "detached" not in form:
        assert radiograph.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


#: EXIF orientation -> how a picture is stored that it turns upright.
STORED_FOR = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED_FOR)
@pytest.mark.parametrize("name", ["f.png", "f.jpg", "f.tif", "lzw.tif", "wide.png", "wide.tif"])
def test_every_exif_orientation_is_turned_upright(name: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.startswith("wide"):
        upright = np.repeat(GREY16[..., None], 3, axis=2)
        radiographs.write_wide_colour(path, np.ascontiguousarray(STORED_FOR[orientation](upright)))
        radiographs.set_orientation(path, orientation)
    else:
        options = {"compression": "tiff_lzw"} if name.startswith("lzw") else {"quality": 95}
        stored = np.ascontiguousarray(STORED_FOR[orientation](GREY8))
        radiographs.write_raster(path, stored, exif=exif(orientation), **options)

    pixels = read(path).pixels
    assert pixels.shape == (ROWS, COLUMNS)
    assert np.abs(pixels - radiographs.expected_pixels()).mean() < 0.006


def test_an_image_of_few_greys_says_so(tmp_path: Path) -> None:
    grey = radiographs.quantised(8)
    Image.fromarray(grey).save(tmp_path / "many.png")
    Image.fromarray(grey // 16 * 16).save(tmp_path / "few.png")

    assert read_radiograph(tmp_path / "many.png").notes == ()
    [note] = read_radiograph(tmp_path / "few.png").notes
    assert note.endswith("greys; most of the radiograph's were lost before.")
    assert 10 <= int(note.split()[4]) <= 16


@pytest.mark.parametrize(("bits", "said"), [(8, "8-bit PNG"), (16, "16-bit PNG")])
def test_a_png_says_its_depth_in_words(bits: int, said: str, tmp_path: Path) -> None:
    Image.fromarray(radiographs.quantised(bits)).save(tmp_path / "f.png")

    assert read_radiograph(tmp_path / "f.png").greys == said


def test_sixteen_bits_keep_more_greys_than_eight(tmp_path: Path) -> None:
    pixels = read(radiographs.write_dicom(tmp_path / "f.dcm", bits=16)).pixels

    assert len(np.unique(pixels)) > 5000


def test_the_header_of_a_dicom_is_kept(tmp_path: Path) -> None:
    path = radiographs.write_dicom(
        tmp_path / "f.dcm",
        Modality="DX",
        ViewPosition="AP",
        PixelSpacing=[2.0, 2.0],
        ImagerPixelSpacing=[2.2, 2.2],
    )

    radiograph = read(path)

    assert (radiograph.modality, radiograph.photometric, radiograph.view) == ("DX", "MONOCHROME2", "AP")
    assert (radiograph.spacing_mm, radiograph.spacing_source) == ((2.0, 2.0), "PixelSpacing")
    assert radiograph.notes == ()


@pytest.mark.parametrize(
    ("elements", "spacing", "source", "noted"),
    [
        ({"ImagerPixelSpacing": [2.2, 2.2]}, (2.2, 2.2), "ImagerPixelSpacing", ""),
        (
            {"PixelSpacing": [0, 0], "ImagerPixelSpacing": [2.2, 2.2]},
            (2.2, 2.2),
            "ImagerPixelSpacing",
            "PixelSpacing",
        ),
        ({"NominalScannedPixelSpacing": [2.5, 2.5]}, (2.5, 2.5), "header", ""),
        ({"PixelSpacing": [0.001, 0.001]}, None, "unknown", "0 mm long"),
        ({"PixelSpacing": [20, 20]}, None, "unknown", "3200 mm long"),
        ({}, None, "unknown", ""),
    ],
)
def test_spacing_comes_from_the_first_credible_element(
    elements: dict, spacing: tuple | None, source: str, noted: str, tmp_path: Path
) -> None:
    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", **elements))

    assert (radiograph.spacing_mm, radiograph.spacing_source) == (spacing, source)
    assert bool(radiograph.notes) == bool(noted)
    assert noted in " ".join(radiograph.notes)


def test_the_one_millimetre_that_writers_invent_is_no_spacing(tmp_path: Path) -> None:
    unknown = radiographs.write_itk(tmp_path / "f.mha", GREY12, (1, 0, 0, 1), (1.0, 1.0))
    known = radiographs.write_itk(tmp_path / "g.mha", GREY12, (1, 0, 0, 1), (2.2, 2.2))

    assert read(unknown).spacing_mm is None
    assert read(known).spacing_mm == (2.2, 2.2)
    assert read(known).spacing_source == "header"


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "PA"}, "PA"),
        ({"SeriesDescription": "Thorax ap liegend"}, "AP"),
        ({"SeriesDescription": "CHEST PA AND LATERAL"}, "unknown"),
        ({"SeriesDescription": "apical"}, "unknown"),
        ({"PatientOrientation": ["P", "F"]}, "LL"),
        ({"PatientOrientation": ["L", "F"]}, "unknown"),
        ({"ViewPosition": "LATERAL"}, "LL"),
        ({"ViewPosition": "PA ERECT"}, "PA"),
        ({"ViewPosition": "L LAT"}, "LL"),
        ({"ViewPosition": "LAO"}, "LAO"),
        ({"ViewPosition": "ERECT", "SeriesDescription": "Chest PA"}, "PA"),
        ({"ViewPosition": "ERECT"}, "ERECT"),
        ({"SeriesDescription": "Chest left lateral decubitus AP"}, "DECUBITUS"),
        ({"ViewCodeSequence": [code("272479007", "SCT", "")]}, "PA"),
        ({"ViewCodeSequence": [code("R-10236", "SRT", "seitlich")]}, "LL"),
        ({"ViewCodeSequence": [code("1", "99X", "antero-posterior oblique")]}, "OBLIQUE"),
    ],
)
def test_the_view_is_found_in_the_header(elements: dict, view: str, tmp_path: Path) -> None:
    assert read(radiographs.write_dicom(tmp_path / "f.dcm", **elements)).view == view


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        (
            {"ViewPosition": "PA", "PatientOrientation": ["A", "F"]},
            "the view is PA, but PatientOrientation A\\F is that of a lateral",
        ),
        (
            {"ViewPosition": "AP", "ViewCodeSequence": [code("399173006", "SCT", "")]},
            "the view is AP, but its code says LL",
        ),
        (
            {"ViewPosition": "LL", "ViewCodeSequence": [code("399348003", "SCT", "")]},
            "the view is LL, but its code says AP",
        ),
        ({"FieldOfViewHorizontalFlip": "YES"}, "flipped horizontally, and no PatientOrientation"),
        ({"ImageLaterality": "L"}, "laterality L, as of one of a pair"),
        ({"Laterality": "R", "ViewPosition": "PA"}, "laterality R, as of one of a pair"),
    ],
)
def test_a_header_that_disagrees_is_noted(elements: dict, words: str, tmp_path: Path) -> None:
    notes = read(radiographs.write_dicom(tmp_path / "f.dcm", **elements)).notes

    assert any(words in note for note in notes)


@pytest.mark.parametrize(
    "elements",
    [
        {"ViewPosition": "PA", "PatientOrientation": ["L", "F"], "ImageLaterality": "U"},
        {"FieldOfViewHorizontalFlip": "YES", "PatientOrientation": ["L", "F"]},
        {"FieldOfViewHorizontalFlip": "NO"},
        {"ViewPosition": "AP", "Laterality": "B", "ViewCodeSequence": [code("399348003", "SCT", "")]},
    ],
)
def test_a_header_that_agrees_gives_no_note(elements: dict, tmp_path: Path) -> None:
    assert read(radiographs.write_dicom(tmp_path / "f.dcm", **elements)).notes == ()


def test_what_says_the_sides_is_kept(tmp_path: Path) -> None:
    said = radiographs.write_dicom(tmp_path / "a.dcm", PatientOrientation=["R", "F"])

    assert read(said).sides == "PatientOrientation R\\F"
    assert read(radiographs.write_dicom(tmp_path / "b.dcm")).sides == ""


def test_non_square_pixels_keep_the_aspect_of_the_anatomy(tmp_path: Path) -> None:
    every_other_row = np.ascontiguousarray(GREY12[::2])
    path = radiographs.write_dicom(tmp_path / "f.dcm", every_other_row, PixelSpacing=[4.4, 2.2])
    only_aspect = radiographs.write_dicom(tmp_path / "g.dcm", every_other_row, PixelAspectRatio=[2, 1])

    for radiograph in (read(path), read(only_aspect)):
        assert radiograph.pixels.shape == (ROWS, COLUMNS)
        assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.02
        assert any("resampled to squares" in note for note in radiograph.notes)
    assert read(path).spacing_mm == (2.2, 2.2)


def test_outliers_do_not_flatten_the_radiograph(tmp_path: Path) -> None:
    stored = GREY16 // 16
    stored[100, 100:110] = 65535  # dead detector pixels
    stored[150, :20] = 0

    pixels = read(radiographs.write_dicom(tmp_path / "f.dcm", stored, bits=16)).pixels

    assert np.abs(pixels - radiographs.expected_pixels()).mean() < 0.006


def test_padding_is_black_and_does_not_count(tmp_path: Path) -> None:
    stored = np.zeros((ROWS, COLUMNS + 60), np.uint16)
    stored[:, 30:-30] = GREY12 // 2 + 1000
    path = radiographs.write_dicom(tmp_path / "f.dcm", stored, PixelPaddingValue=0)

    pixels = read(path).pixels

    assert pixels[:, :30].max() == 0.0
    assert np.abs(pixels[:, 30:-30] - radiographs.expected_pixels()).mean() < 0.006


def test_transparent_pixels_are_black_and_do_not_count(tmp_path: Path) -> None:
    grey = np.full((ROWS + 40, COLUMNS), 255, np.uint8)
    grey[40:] = GREY8 // 2 + 60
    alpha = np.zeros_like(grey)
    alpha[40:] = 255
    image = Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))

    radiograph = read(radiographs.write_raster(tmp_path / "f.png", image))

    assert radiograph.pixels[:40].max() == 0.0
    assert np.abs(radiograph.pixels[40:] - radiographs.expected_pixels()).mean() < 0.02
    assert any("ransparent" in note for note in radiograph.notes)


def test_a_colour_photograph_is_read_and_said_to_have_colour(tmp_path: Path) -> None:
    photograph = np.dstack([GREY8, GREY8[::-1], GREY8[:, ::-1]])

    radiograph = read(radiographs.write_raster(tmp_path / "f.png", photograph))

    assert radiograph.pixels.shape == (ROWS, COLUMNS)
    assert "of the pixels have colour" in radiograph.notes[0]


def test_a_small_coloured_caption_is_no_colour_photograph(tmp_path: Path) -> None:
    caption = RGB8.copy()
    caption[140:150, 100:120] = (255, 255, 0)

    assert read(radiographs.write_raster(tmp_path / "f.png", caption)).notes == ()


def test_raw_detector_values_are_noted(tmp_path: Path) -> None:
    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", PresentationIntentType="FOR PROCESSING"))

    assert "raw detector values" in radiograph.notes[0]


def test_a_malformed_window_is_noted_and_the_radiograph_read_without_it(tmp_path: Path) -> None:
    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", WindowCenter="2048", WindowWidth="0"))

    assert "VOI LUT or window is malformed" in radiograph.notes[0]
    assert np.abs(radiograph.pixels - radiographs.expected_pixels()).mean() < 0.006


# --- Folders -----------------------------------------------------------------------------------------------


def test_a_folder_gives_its_frontal_view(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    radiographs.write_dicom(tmp_path / "IM1", ViewPosition="LL")
    frontal = radiographs.write_dicom(tmp_path / "series" / "IM2", ViewPosition="PA")
    radiographs.write_dicom(tmp_path / "IM3", Modality="CT")
    (tmp_path / "readme.txt").write_text("not an image")

    radiograph = read(tmp_path)

    assert radiograph.name == "IM2"
    assert radiograph.view == "PA"
    assert radiograph.sha256 == hashlib.sha256(frontal.read_bytes()).hexdigest()


def test_a_view_without_a_name_is_taken_when_the_others_are_lateral(tmp_path: Path) -> None:
    radiographs.write_dicom(tmp_path / "IM1", ViewPosition="RL")
    radiographs.write_dicom(tmp_path / "IM2")

    assert read(tmp_path).name == "IM2"


def test_the_processed_radiograph_wins_over_raw_detector_values(tmp_path: Path) -> None:
    radiographs.write_dicom(tmp_path / "IM1", ViewPosition="PA", PresentationIntentType="FOR PROCESSING")
    radiographs.write_dicom(tmp_path / "IM2", ViewPosition="PA", PresentationIntentType="FOR PRESENTATION")

    assert read(tmp_path).name == "IM2"


def test_two_frontal_views_in_a_folder_are_ambiguous(tmp_path: Path) -> None:
    radiographs.write_dicom(tmp_path / "IM1", ViewPosition="PA")
    radiographs.write_dicom(tmp_path / "IM2", ViewPosition="AP")

    assert "got 2" in error_of(tmp_path).message
    assert "IM1 (PA), IM2 (AP)" in error_of(tmp_path).message


def test_copies_of_one_image_in_a_folder_are_one(tmp_path: Path) -> None:
    radiographs.write_dicom(tmp_path / "b.dcm", ViewPosition="PA")
    (tmp_path / "a (copy).dcm").write_bytes((tmp_path / "b.dcm").read_bytes())
    radiographs.write_dicom(tmp_path / "lateral.dcm", ViewPosition="LL")

    assert read_radiograph(tmp_path).name == "a (copy).dcm"


def test_a_folder_with_lateral_views_alone_is_refused(tmp_path: Path) -> None:
    radiographs.write_dicom(tmp_path / "IM1", ViewPosition="LL")

    assert "IM1 (LL)" in error_of(tmp_path).message


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    radiographs.write_raster(tmp_path / "f.png", GREY8)

    assert "got none" in error_of(tmp_path).message


def test_a_folder_with_a_ct_series_is_refused_with_its_modality(tmp_path: Path) -> None:
    for index in range(3):
        radiographs.write_dicom(tmp_path / f"slice{index}.dcm", Modality="CT")

    assert "modality CT" in error_of(tmp_path).message


# --- Unusable input ----------------------------------------------------------------------------------------


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "nothing.png").message


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Drops root's right to read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of this system are not POSIX's")
@pytest.mark.parametrize("folder", [False, True])
def test_an_unreadable_path_is_refused(folder: bool, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    path = radiographs.write_dicom(locked / "f.dcm")
    (locked if folder else path).chmod(0)
    with ordinary_user():
        error = error_of(locked if folder else path)
    locked.chmod(0o700)

    assert "no permission" in error.message


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")

    assert "neither" in error_of(tmp_path / "pipe.png").message


def test_a_link_that_leads_back_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")

    assert "a symbolic link that leads back to itself" in error_of(tmp_path / "a.png").message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    for name in ("f.dcm", "f.png", "f.nii.gz", "f.mha", "f"):
        (tmp_path / name).write_bytes(b"")
        assert name in error_of(tmp_path / name).message


@pytest.mark.parametrize(
    "name", ["notes.png", "notes.dcm", "notes.jpg", "notes.nii", "notes.nrrd", "notes.txt"]
)
def test_a_text_file_is_refused_whatever_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("This is a letter, not a radiograph.\n" * 50)

    assert name in error_of(tmp_path / name).message


@pytest.mark.parametrize("modality", ["CT", "MR", "MG", "US"])
def test_a_dicom_of_another_modality_is_refused_by_name(modality: str, tmp_path: Path) -> None:
    error = error_of(radiographs.write_dicom(tmp_path / "f.dcm", Modality=modality))

    assert f"modality {modality}" in error.message


def test_a_multi_frame_dicom_is_refused(tmp_path: Path) -> None:
    error = error_of(
        radiographs.write_dicom(
            tmp_path / "f.dcm", np.stack([GREY12] * 3), Rows=ROWS, Columns=COLUMNS, NumberOfFrames=3
        )
    )

    assert "Expected one frame, got 3" in error.message


def test_a_dicom_without_pixels_is_refused(tmp_path: Path) -> None:
    report = radiographs.write_dicom(tmp_path / "f.dcm", PixelData=None, Rows=None, Columns=None)
    header = radiographs.write_dicom(tmp_path / "g.dcm", PixelData=None)

    assert "without pixel data" in error_of(report).message
    assert "without complete pixel data" in error_of(header).message


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_is_refused(form: str, tmp_path: Path) -> None:
    path = FORMS[form](tmp_path)
    if path.suffix == ".mhd":
        path = path.with_suffix(".raw") if path.with_suffix(".raw").exists() else path.with_suffix(".zraw")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    if path.suffix.endswith("raw"):
        path = path.with_suffix(".mhd")

    assert path.name in error_of(path).message


def test_damaged_bytes_never_raise_anything_but_our_errors(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for form, write in FORMS.items():
        folder = tmp_path / form.replace(" ", "_")
        folder.mkdir()
        path = write(folder)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(8):
            damaged = whole.copy()
            places = random.integers(0, min(len(whole), 1500), 12)
            damaged[places] = random.integers(0, 256, 12)
            path.write_bytes(damaged[: random.integers(1, len(whole) + 1)].tobytes())
            try:
                read_radiograph(path)
            except XRay2CTPAError as error:
                assert error.message  # noqa: PT017


def test_a_volume_is_refused(tmp_path: Path) -> None:
    volume = np.zeros((70, 80, 90), np.int16)
    for name in ("f.nii.gz", "f.mha", "f.nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / name))
        assert "90 x 80 x 70 voxels, a volume" in error_of(tmp_path / name).message
    series = radiographs.write_nifti(tmp_path / "g.nii", np.zeros((70, 80, 1, 4), np.int16), np.eye(4))
    assert "a volume" in error_of(series).message


def test_a_sagittal_slice_is_refused(tmp_path: Path) -> None:
    path = radiographs.write_itk(
        tmp_path / "f.nrrd", GREY12[None], (0, 0, 1, 1, 0, 0, 0, -1, 0), (*radiographs.SPACING, 1.0)
    )

    assert "sagittal" in error_of(path).message


def test_several_pages_are_refused(tmp_path: Path) -> None:
    pages = Image.fromarray(GREY8)
    radiographs.write_raster(tmp_path / "f.tif", pages, save_all=True, append_images=[pages, pages])

    assert "got f.tif with 3" in error_of(tmp_path / "f.tif").message


def test_a_blank_image_is_refused_in_every_form(tmp_path: Path) -> None:
    blank = np.full((100, 90), 77, np.uint8)
    blank_with_a_letter = blank.copy()
    blank_with_a_letter[3:7, 3:7] = 255

    for path in (
        radiographs.write_raster(tmp_path / "f.png", blank),
        radiographs.write_raster(tmp_path / "g.png", blank_with_a_letter),
        radiographs.write_dicom(tmp_path / "f.dcm", blank, bits=8),
        radiographs.write_nifti(tmp_path / "f.nii", blank.T[..., None], CORONAL_RAS),
    ):
        assert "blank image" in error_of(path).message


@pytest.mark.parametrize("shape", [(1, 1), (63, 500), (500, 63), (1, 4000)])
def test_an_image_with_too_few_pixels_is_refused_in_every_form(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    small = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)

    for path in (
        radiographs.write_raster(tmp_path / "f.png", small),
        radiographs.write_raster(tmp_path / "f.jpg", small.astype(np.uint8)),
        radiographs.write_dicom(tmp_path / "f.dcm", small, bits=16),
        radiographs.write_nifti(tmp_path / "f.nii", small.T[..., None], CORONAL_RAS),
        radiographs.write_itk(tmp_path / "f.mha", small, (1, 0, 0, 1), radiographs.SPACING),
    ):
        assert (
            f"at least 64 pixels a side, got {path.name} with {shape[1]} x {shape[0]}"
            in error_of(path).message
        )


@pytest.mark.parametrize("side", [7072, 10_000, 20_000, 100_000])
def test_a_huge_image_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    """None of these files holds a pixel: only the header can have been read."""
    (tmp_path / "f.png").write_bytes(radiographs.png_header(side, side))
    assert "at most 50 million pixels, got f.png" in error_of(tmp_path / "f.png").message
    if side > 65535:
        return
    dicom = radiographs.write_dicom(tmp_path / "f.dcm", PixelData=None, Rows=side, Columns=side)
    assert f"at most 50 million pixels, got f.dcm with {side} x {side}" in error_of(dicom).message
    (tmp_path / "f.nrrd").write_text(
        f"NRRD0004\ntype: uint8\ndimension: 2\nsizes: {side} {side}\nencoding: raw\n\n"
    )
    assert f"got f.nrrd with {side} x {side}" in error_of(tmp_path / "f.nrrd").message
    if side < 32768:
        header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
        header.set_data_shape((side, side, 1))
        (tmp_path / "f.nii").write_bytes(header.binaryblock + b"\0\0\0\0")
        assert f"got f.nii with {side} x {side}" in error_of(tmp_path / "f.nii").message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_is_refused(value: float, tmp_path: Path) -> None:
    radiograph = radiographs.picture()
    radiograph[50, 60] = value

    for path in (
        radiographs.write_raster(tmp_path / "f.tif", radiograph),
        radiographs.write_nifti(tmp_path / "f.nii.gz", radiograph.T[..., None], CORONAL_RAS),
        radiographs.write_itk(tmp_path / "f.mha", radiograph, (1, 0, 0, 1), radiographs.SPACING),
    ):
        assert f"got 1 NaN or infinite of {ROWS * COLUMNS}" in error_of(path).message


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    path = radiographs.write_nifti(
        tmp_path / "f.nii", radiographs.picture().T[..., None].astype(np.complex64), CORONAL_RAS
    )

    assert "complex64" in error_of(path).message


def test_reading_writes_nothing_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for form in FORMS:
        if form.startswith("mhd"):  # its pixels lie in a second file
            continue
        path = FORMS[form](tmp_path)
        read(path)
        path.write_bytes(path.read_bytes()[:1500])
        error_of(path)
    odd = FORMS["nifti without orientation"](tmp_path)
    content = bytearray(odd.read_bytes())
    content[252:256] = b"\x39\x30\x39\x30"  # qform and sform codes that do not exist
    odd.write_bytes(content)
    assert np.abs(read(odd).pixels - radiographs.expected_pixels()).mean() < 0.006

    assert capfd.readouterr() == ("", "")


# --- Real radiographs
# --------------------------------------------------------------------------------------------


@pytest.mark.real
def test_every_real_radiograph_reads(real_data: Path) -> None:
    paths = [path for path in sorted((real_data / "cxr").rglob("*")) if path.is_file()]
    assert paths

    for path in paths:
        radiograph = read(path)
        assert min(radiograph.pixels.shape) >= 512, path
        assert 0.2 < radiograph.pixels.mean() < 0.85, path
        assert radiograph.pixels.std() > 0.1, path


@pytest.mark.real
def test_the_real_dicom_keeps_its_spacing_and_view(real_data: Path) -> None:
    radiograph = read(real_data / "cxr" / "dicom" / "rsna_pa_monochrome2.dcm")

    assert radiograph.pixels.shape == (1024, 1024)
    assert (radiograph.spacing_mm, radiograph.spacing_source) == ((0.168, 0.168), "PixelSpacing")
    assert (radiograph.modality, radiograph.view) == ("CR", "PA")
    assert pydicom.dcmread(real_data / "cxr" / "dicom" / "rsna_pa_monochrome2.dcm").Rows == 1024


@pytest.mark.real
def test_the_screenshots_of_real_pairs_read_in_their_aspect(real_data: Path) -> None:
    paths = sorted(real_data.glob("pairs/*/cxr.png"))
    assert paths

    for path in paths:
        with Image.open(path) as image:
            assert read(path).pixels.shape == (image.height, image.width)


@pytest.mark.parametrize(
    ("elements", "noted"),
    [
        ({"PatientAge": "006Y"}, "a child (6 years by the header)"),
        ({"PatientAge": "004M"}, "a child (under 1 year by the header)"),
        ({"PatientBirthDate": "20150301", "StudyDate": "20260102"}, "a child (11 years by the header)"),
        ({"BodyPartExamined": "ABDOMEN"}, "the body part ABDOMEN, not the chest"),
        ({"PatientAge": "6 M"}, "a child (under 1 year by the header)"),
        ({"PatientAge": "004"}, "a child (4 years by the header)"),
        ({"PatientBirthDate": "20150301", "AcquisitionDate": "20260102"}, "a child (11 years by the header)"),
        ({"PatientSize": "0.65"}, "may be a child (PatientSize 0.65 m by the header)"),
        ({"PatientSize": "110"}, "may be a child (PatientSize 1.10 m by the header)"),
        ({"PatientAge": "ANON"}, "PatientAge ANON cannot be an age"),
        ({"PatientAge": "999Y"}, "PatientAge 999Y cannot be an age"),
        (
            {"PatientAge": "045Y", "PatientBirthDate": "20200101", "StudyDate": "20240101"},
            "disagrees with itself: the patient is 45 years old by PatientAge, 4 years by PatientBirthDate",
        ),
        (
            {"PatientBirthDate": "20250101", "StudyDate": "20240101"},
            "PatientBirthDate lies after the date of the examination",
        ),
        ({"PatientAge": "045Y", "PatientBirthDate": "19000101", "StudyDate": "20260102"}, ""),
        ({"PatientAge": "62", "PatientSize": "1.75"}, ""),
        ({"PatientAge": ""}, ""),
        ({"PatientAge": "062Y", "BodyPartExamined": "CHEST"}, ""),
        ({"PatientBirthDate": "19600301", "StudyDate": "20260102", "BodyPartExamined": "PORT CHEST"}, ""),
    ],
)
def test_a_header_of_a_child_or_of_another_part_of_the_body_is_noted(
    elements: dict, noted: str, tmp_path: Path
) -> None:
    notes = read(radiographs.write_dicom(tmp_path / "f.dcm", **elements)).notes

    assert len(notes) == bool(noted)
    assert noted in " ".join(notes)


def test_a_childs_age_that_the_dates_contradict_is_said_twice(tmp_path: Path) -> None:
    path = radiographs.write_dicom(
        tmp_path / "f.dcm", PatientAge="004Y", PatientBirthDate="19600101", StudyDate="20240101"
    )

    radiograph = read(path)

    assert radiograph.age_years == 4.0
    assert "4 years old by PatientAge, 64 years by PatientBirthDate" in radiograph.notes[0]
    assert "a child (4 years by the header)" in radiograph.notes[1]


FOREIGN = {
    "chest.zip": (b"PK\x03\x04", "a ZIP archive", "Unpack it"),
    "chest.dcm": (b"PK\x03\x04", "a ZIP archive", "Unpack it"),
    "chest.dcm.gz": (b"\x1f\x8b\x08", "packed by gzip", "Unpack it"),
    "chest.tar": (b"chest".ljust(257, b"\0") + b"ustar", "a TAR archive", "Unpack it"),
    "report.dcm": (b"%PDF-1.4", "a PDF document", "Export the radiograph"),
    "chest.jpg": (b"RIFF\x10\0\0\0WEBP", "a WebP image", "Export the radiograph"),
    "chest.jp2": (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 image", "Export the radiograph"),
    "chest.png": (b"BM\x36\x10\0\0\0\0\0\0", "a BMP image", "Export the radiograph"),
    "page.png": (b"<!DOCTYPE html><html>", "a web page", "asked for a login"),
    "big.dcm": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_given_in_place_of_a_radiograph_is_named(name, tmp_path):
    content, form, advice = FOREIGN[name]
    (tmp_path / name).write_bytes(content.ljust(4000, b"."))
    with pytest.raises(InputError, match=f"got {name}, which is {form}") as caught:
        read_radiograph(tmp_path / name)
    assert advice in caught.value.hint
