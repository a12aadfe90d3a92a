"""Greys of DICOM radiographs: lookup tables, bits, functional groups and masks, however they are stored."""

import warnings
from pathlib import Path
from typing import Any

import io_radiographs as radiographs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.volume import Radiograph

GREY12 = radiographs.quantised(12)
EXPECTED = radiographs.expected_pixels()


def read(path: Path) -> Radiograph:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_radiograph(path)


def distance(radiograph: Radiograph) -> float:
    """Mean difference from the expected greys, 0..1."""
    return float(np.abs(radiograph.pixels - EXPECTED).mean())


def lut(entries: np.ndarray, first: int, bits: int, vr: str, descriptor_vr: str = "US") -> Dataset:
    """An item of a LUT sequence whose data are written as ``vr``: a word an entry, or "packed"."""
    item = Dataset()
    descriptor = [len(entries) % 65536, first, bits]
    if descriptor_vr == "UN":
        item.add_new("LUTDescriptor", "UN", (np.array(descriptor) & 0xFFFF).astype("<u2").tobytes())
    else:
        item.add_new("LUTDescriptor", descriptor_vr, descriptor)
    if vr == "US":
        item.add_new("LUTData", "US", entries.tolist())
    elif vr == "packed US":
        item.add_new("LUTData", "US", entries.astype(np.uint8).view("<u2").tolist())
    else:
        packed = vr.startswith("packed")
        data = entries.astype(np.uint8 if packed else "<u2").tobytes()
        item.add_new("LUTData", vr.removeprefix("packed "), data)
    return item


@pytest.mark.parametrize(
    ("bits", "vr"),
    [
        (8, "US"),
        (8, "OW"),
        (8, "packed OW"),
        (8, "packed US"),
        (8, "packed UN"),
        (16, "OW"),
        (16, "UN"),
        (12, "US"),
    ],
)
def test_a_voi_lut_of_any_storage_gives_its_greys(bits: int, vr: str, tmp_path: Path) -> None:
    entries = np.arange(4096) >> max(0, 12 - bits)
    item = lut(entries, 0, bits, vr)

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", VOILUTSequence=[item]))

    assert distance(radiograph) < 0.006
    assert radiograph.notes == ()
    assert "VOI LUT of 4096 entries" in radiograph.greys


@pytest.mark.parametrize("descriptor", ["US", "UN"])
def test_a_lut_of_all_16_bits_announces_0_entries(descriptor: str, tmp_path: Path) -> None:
    item = lut(np.arange(65535, -1, -1), 0, 16, "UN", descriptor)
    stored = 65535 - radiographs.quantised(16)

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", stored, bits=16, VOILUTSequence=[item]))

    assert distance(radiograph) < 0.006


@pytest.mark.parametrize(("first", "vr"), [(-1000, "SS"), (64536, "US")])
def test_the_first_mapped_value_may_be_below_zero(first: int, vr: str, tmp_path: Path) -> None:
    """The table starts at -1000 and lets greys rise; read as 64536 it would make every pixel one grey."""
    signed = (GREY12.astype(np.int32) - 1000).astype(np.int16)
    item = lut(np.arange(4096) * 16, first, 16, "OW", vr)

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", signed, bits=13, VOILUTSequence=[item]))

    assert distance(radiograph) < 0.006
    assert radiograph.notes == ()


def test_a_modality_lut_of_8_bit_entries_does_not_wrap(tmp_path: Path) -> None:
    item = lut((4095 - np.arange(4096)) >> 4, 0, 8, "US")
    item.ModalityLUTType = "US"

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", 4095 - GREY12, ModalityLUTSequence=[item]))

    assert distance(radiograph) < 0.006


def test_a_lut_with_too_few_entries_is_noted_and_the_window_taken(tmp_path: Path) -> None:
    item = lut(np.arange(4096), 0, 16, "OW")
    item.LUTData = item.LUTData[:1000]
    path = radiographs.write_dicom(
        tmp_path / "f.dcm", VOILUTSequence=[item], WindowCenter="2048", WindowWidth="4096"
    )

    radiograph = read(path)

    assert "4096 are announced" in radiograph.notes[0]
    assert radiograph.greys.endswith("window 2048/4096")
    assert distance(radiograph) < 0.006


@pytest.mark.parametrize("width", ["1", "2", "40"])
def test_a_window_that_leaves_black_and_white_alone_is_not_applied(width: str, tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm", WindowCenter="2048", WindowWidth=width)

    radiograph = read(path)

    assert radiograph.notes == (
        "The VOI LUT or window leaves nearly everything black or white; the full range was read instead.",
    )
    assert distance(radiograph) < 0.006


def test_a_window_that_clips_a_part_is_applied(tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm", WindowCenter="2048", WindowWidth="1000")

    radiograph = read(path)

    assert radiograph.notes == ()
    assert radiograph.greys.endswith("window 2048/1000")


@pytest.mark.parametrize("first", [("", ""), ("2048", "0"), ("2048", "-5")], ids=["empty", "0", "negative"])
def test_the_first_valid_one_of_several_windows_is_applied(first: tuple[str, str], tmp_path: Path) -> None:
    path = radiographs.write_dicom(
        tmp_path / "f.dcm", WindowCenter=[first[0], "2048"], WindowWidth=[first[1], "1000"]
    )
    alone = radiographs.write_dicom(tmp_path / "g.dcm", WindowCenter="2048", WindowWidth="1000")

    radiograph = read(path)

    assert radiograph.notes == ()
    assert radiograph.greys.endswith("window 2048/1000, the first valid one")
    assert np.array_equal(radiograph.pixels, read(alone).pixels)


@pytest.mark.parametrize(
    ("photometric", "sign", "slope", "noted"),
    [
        ("MONOCHROME1", 1, 1, False),
        ("MONOCHROME2", 1, 1, True),
        ("MONOCHROME2", 1, -1, False),
        ("MONOCHROME1", 1, -1, True),
    ],
)
def test_raw_values_are_attenuating_where_their_sign_says_so(
    photometric: str, sign: int, slope: int, noted: bool, tmp_path: Path
) -> None:
    """Sign 1: low values are attenuating, as in the pixels written here; a slope of -1 exchanges them."""
    path = radiographs.write_dicom(
        tmp_path / "f.dcm",
        4095 - radiographs.quantised(12),
        PhotometricInterpretation=photometric,
        PresentationIntentType="FOR PROCESSING",
        PixelIntensityRelationshipSign=sign,
        RescaleSlope=str(slope),
        RescaleIntercept="0",
    )

    radiograph = read(path)

    assert distance(radiograph) < 0.006
    assert any("PixelIntensityRelationshipSign 1 says" in note for note in radiograph.notes) == noted


@pytest.mark.parametrize("said", ["MONOCHROME 1", "monochrome1"])
def test_a_photometric_interpretation_in_another_spelling_is_known(said: str, tmp_path: Path) -> None:
    stored = 4095 - radiographs.quantised(12)

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", stored, PhotometricInterpretation=said))

    assert radiograph.photometric == "MONOCHROME1"
    assert distance(radiograph) < 0.006


def test_an_8_bit_jpeg_under_a_header_of_12_bits_is_read_and_noted(tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm", syntax=uid.JPEGBaseline8Bit, bits=8)
    dataset = pydicom.dcmread(path)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.save_as(path)

    radiograph = read(path)

    assert radiograph.notes == ("BitsStored of 12 does not fit 8 allocated bits; all were read.",)
    assert distance(radiograph) < 0.006


def test_the_sign_of_a_processed_image_does_not_turn_it(tmp_path: Path) -> None:
    path = radiographs.write_dicom(
        tmp_path / "f.dcm", PresentationIntentType="FOR PRESENTATION", PixelIntensityRelationshipSign=1
    )

    assert distance(read(path)) < 0.006


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_keep_the_order_of_greys(function: str, tmp_path: Path) -> None:
    path = radiographs.write_dicom(
        tmp_path / "f.dcm", WindowCenter="2048", WindowWidth="4096", VOILUTFunction=function
    )

    pixels = read(path).pixels

    assert np.corrcoef(pixels.ravel(), EXPECTED.ravel())[0, 1] > 0.99


def test_an_unknown_function_of_the_window_is_noted_and_taken_as_linear(tmp_path: Path) -> None:
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}

    unknown = read(radiographs.write_dicom(tmp_path / "f.dcm", VOILUTFunction="CUBIC", **window))
    linear = read(radiographs.write_dicom(tmp_path / "g.dcm", **window))

    assert unknown.notes == ("The VOILUTFunction CUBIC is unknown; the window was taken as LINEAR.",)
    np.testing.assert_array_equal(unknown.pixels, linear.pixels)


def test_a_presentation_lut_that_falls_turns_the_greys(tmp_path: Path) -> None:
    item = lut(np.arange(4095, -1, -1), 0, 12, "US")

    radiograph = read(
        radiographs.write_dicom(tmp_path / "f.dcm", 4095 - GREY12, PresentationLUTSequence=[item])
    )

    assert distance(radiograph) < 0.006
    assert radiograph.greys == "12-bit MONOCHROME2, presentation LUT of 4096 entries"


def test_a_presentation_lut_follows_the_window_and_says_itself_what_is_bright(tmp_path: Path) -> None:
    """The photometric interpretation and the shape do not turn its values once more."""
    radiograph = read(
        radiographs.write_dicom(
            tmp_path / "f.dcm",
            PhotometricInterpretation="MONOCHROME1",
            WindowCenter="2048",
            WindowWidth="4096",
            PresentationLUTSequence=[lut(np.arange(256), 0, 8, "packed OW")],
        )
    )

    assert distance(radiograph) < 0.006
    assert radiograph.greys == "12-bit MONOCHROME1, window 2048/4096, presentation LUT of 256 entries"


def test_a_presentation_lut_of_too_few_entries_is_noted(tmp_path: Path) -> None:
    item = lut(np.arange(4096), 0, 12, "OW")
    item.LUTData = item.LUTData[:200]

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", PresentationLUTSequence=[item]))

    assert "The presentation LUT is malformed" in radiograph.notes[0]
    assert distance(radiograph) < 0.006


# --- Bits --------------------------------------------------------------------------------------------------


def test_pixels_in_the_upper_bits_are_brought_down(tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm", GREY12 << 4, HighBit=15)

    assert distance(read(path)) < 0.006


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("depth", [10, 12, 14])
def test_pixels_without_a_gap_are_unpacked(depth: int, syntax: str, tmp_path: Path) -> None:
    """BitsAllocated 12: two pixels in three bytes, as older modalities wrote them."""
    stored = radiographs.quantised(depth)
    data = radiographs.without_gaps(stored, depth, syntax == uid.ExplicitVRBigEndian)
    path = radiographs.write_dicom(
        tmp_path / "f.dcm", stored, syntax, bits=depth, BitsAllocated=depth, PixelData=data
    )

    radiograph = read(path)

    assert distance(radiograph) < 0.006
    assert (radiograph.greys, radiograph.notes) == (f"{depth}-bit MONOCHROME2", ())


@pytest.mark.parametrize("shift", [0, 4])
@pytest.mark.parametrize("planar", [0, 1])
def test_colour_in_the_upper_bits_is_brought_down(shift: int, planar: int, tmp_path: Path) -> None:
    colour = np.dstack([GREY12 << shift] * 3)
    path = radiographs.write_dicom(
        tmp_path / "f.dcm",
        colour,
        HighBit=11 + shift,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=planar,
        PixelData=(np.moveaxis(colour, 2, 0) if planar else colour).tobytes(),
    )

    assert distance(read(path)) < 0.006


def test_a_high_bit_that_the_pixels_do_not_use_is_not_believed(tmp_path: Path) -> None:
    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", GREY12, HighBit=15))

    assert distance(radiograph) < 0.006
    assert "HighBit" in radiograph.notes[0]


def test_an_overlay_in_the_unused_bits_is_left_out(tmp_path: Path) -> None:
    drawn = GREY12.copy()
    drawn[60:64] |= 1 << 12
    path = radiographs.write_dicom(tmp_path / "f.dcm", drawn)

    assert distance(read(path)) < 0.006


@pytest.mark.parametrize("metal", [4096 + 50, 4096 + 1500, 8000, 20000])
@pytest.mark.parametrize("place", [(slice(60, 64), slice(30, 90)), (slice(20, 60), slice(90, 110))])
def test_metal_beyond_the_stored_bits_is_no_overlay(metal: int, place: tuple, tmp_path: Path) -> None:
    bright = GREY12.copy()
    bright[place] = metal

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", bright))

    assert radiograph.pixels[place].min() > 0.99
    assert "all bits were read" in radiograph.notes[0]


def test_signed_values_beyond_the_stored_bits_are_believed(tmp_path: Path) -> None:
    """HU of 12 bits end at 2047; metal of 3000 in words with a sign is no -1096."""
    signed = GREY12.astype(np.int16) // 2 - 1024
    signed[60:70, 30:60] = 3000

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", signed))

    assert radiograph.pixels[60:70, 30:60].min() > 0.99
    assert "all bits were read" in radiograph.notes[0]


def test_pixels_of_more_bits_than_stored_are_believed_with_a_note(tmp_path: Path) -> None:
    radiograph = read(
        radiographs.write_dicom(
            tmp_path / "f.dcm", radiographs.quantised(16), bits=16, BitsStored=12, HighBit=11
        )
    )

    assert distance(radiograph) < 0.006
    assert "all bits were read" in radiograph.notes[0]


def test_a_sign_in_the_stored_bits_is_extended(tmp_path: Path) -> None:
    """12 bits with sign in 16 whose upper four are 0, as some archives leave them."""
    signed = (GREY12.astype(np.int32) - 2048).astype(np.int16) & 0x0FFF

    assert distance(read(radiographs.write_dicom(tmp_path / "f.dcm", signed))) < 0.006


def test_lossy_values_above_the_stored_bits_stay_white(tmp_path: Path) -> None:
    """JPEG-LS may overshoot by its NEAR: 4097 where 4095 is the brightest."""
    jpegls = pytest.importorskip("jpeg_ls", reason="the package pyjpegls writes JPEG-LS")
    bright = GREY12.copy()
    bright[bright > 4090] = 4097
    path = radiographs.write_dicom(tmp_path / "f.dcm")
    dataset = pydicom.dcmread(path)
    code = bytes(jpegls.encode_array(bright, lossy_error=2))
    dataset.PixelData = encapsulate([code])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = uid.JPEGLSNearLossless
    pydicom.dcmwrite(path, dataset)

    radiograph = read(path)

    assert radiograph.pixels[10:26, 8:20].min() > 0.98
    assert distance(radiograph) < 0.006


# --- Functional groups, rescaling --------------------------------------------------------------------------


def groups(**elements: Any) -> list[Dataset]:
    """Functional groups: PixelMeasures=dict(PixelSpacing=...) becomes PixelMeasuresSequence."""
    item = Dataset()
    for name, values in elements.items():
        group = Dataset()
        for keyword, value in values.items():
            setattr(group, keyword, value)
        setattr(item, f"{name}Sequence", [group])
    return [item]


@pytest.mark.parametrize("place", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_functional_groups_are_read_like_the_top_level(place: str, tmp_path: Path) -> None:
    held = groups(
        PixelMeasures={"PixelSpacing": [2.2, 2.2]},
        PixelValueTransformation={"RescaleSlope": "-1", "RescaleIntercept": "4095"},
        FrameVOILUT={"WindowCenter": "2048", "WindowWidth": "4096"},
    )

    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", 4095 - GREY12, **{place: held}))

    assert distance(radiograph) < 0.006
    assert radiograph.spacing_mm == (2.2, 2.2)
    assert radiograph.greys == "12-bit MONOCHROME2, rescaled by -1 and 4095, window 2048/4096"


@pytest.mark.parametrize("slope", ["0", "0.0"])
def test_a_slope_of_0_is_no_slope(slope: str, tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm", RescaleSlope=slope, RescaleIntercept="0")

    radiograph = read(path)

    assert distance(radiograph) < 0.006
    assert "RescaleSlope of 0" in radiograph.notes[0]


# --- Padding and shutter -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "vr"), [(-2000, "SS"), (63536, "US"), (63536, "UN")])
@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_found_whatever_its_sign(value: int, vr: str, signed: bool, tmp_path: Path) -> None:
    stored = np.full((radiographs.ROWS, radiographs.COLUMNS + 60), -2000, np.int16)
    stored[:, 30:-30] = GREY12 // 4
    stored = stored if signed else stored.view(np.uint16)
    path = radiographs.write_dicom(tmp_path / "f.dcm", stored, bits=16)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS" if vr == "SS" else "US", value)
    pydicom.dcmwrite(path, dataset)
    if vr == "UN":
        short, unknown = b"\x28\0\x20\1US\2\0", b"\x28\0\x20\1UN\0\0\2\0\0\0"
        path.write_bytes(path.read_bytes().replace(short, unknown))

    pixels = read(path).pixels

    assert pixels[:, :30].max() == 0.0
    assert np.abs(pixels[:, 30:-30] - EXPECTED).mean() < 0.006


@pytest.mark.parametrize("kind", ["Float", "DoubleFloat"])
def test_floating_point_padding_is_found(kind: str, tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm")
    dataset = pydicom.dcmread(path)
    pixels = radiographs.picture().astype(np.float32 if kind == "Float" else np.float64)
    pixels[:, :6] = -1.1e6
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.BitsAllocated = pixels.itemsize * 8
    setattr(dataset, f"{kind}PixelData", pixels.tobytes())
    setattr(dataset, f"{kind}PixelPaddingValue", -1.1e6)
    dataset.save_as(path)

    radiograph = read(path)

    assert np.abs(radiograph.pixels - EXPECTED)[:, 6:].mean() < 0.006
    assert "5% padding left out" in radiograph.greys


SHUTTERS = {
    "rectangular": {
        "ShutterShape": "RECTANGULAR",
        "ShutterLeftVerticalEdge": 31,
        "ShutterRightVerticalEdge": 30 + radiographs.COLUMNS,
        "ShutterUpperHorizontalEdge": 1,
        "ShutterLowerHorizontalEdge": radiographs.ROWS,
    },
    "polygonal": {
        "ShutterShape": "POLYGONAL",
        "VerticesOfThePolygonalShutter": [1, 31, 1, 158, 160, 158, 160, 31],
    },
}


@pytest.mark.parametrize("shape", SHUTTERS)
def test_what_the_shutter_hides_is_black_and_does_not_count(shape: str, tmp_path: Path) -> None:
    stored = np.full((radiographs.ROWS, radiographs.COLUMNS + 60), 65535, np.uint16)
    stored[:, 30:-30] = GREY12
    path = radiographs.write_dicom(tmp_path / "f.dcm", stored, bits=16, **SHUTTERS[shape])

    radiograph = read(path)

    assert radiograph.pixels[:, :30].max() == radiograph.pixels[:, -30:].max() == 0.0
    assert np.abs(radiograph.pixels[:, 30:-30] - EXPECTED).mean() < 0.006
    assert "32% outside the display shutter left out" in radiograph.greys


def test_a_circular_shutter_hides_the_corners(tmp_path: Path) -> None:
    path = radiographs.write_dicom(
        tmp_path / "f.dcm",
        ShutterShape="CIRCULAR",
        CenterOfCircularShutter=[80, 64],
        RadiusOfCircularShutter=60,
    )

    pixels = read(path).pixels

    assert pixels[:10, :10].max() == 0.0
    assert (pixels[78:82, 10:118] > 0).mean() > 0.95


def test_a_bitmap_shutter_hides_what_its_overlay_marks(tmp_path: Path) -> None:
    marked = np.zeros((radiographs.ROWS, radiographs.COLUMNS), bool)
    marked[:, :20] = True
    path = radiographs.write_dicom(tmp_path / "f.dcm", ShutterShape="BITMAP", ShutterOverlayGroup=0x6000)
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x60000010, "US", radiographs.ROWS)
    dataset.add_new(0x60000011, "US", radiographs.COLUMNS)
    dataset.add_new(0x60003000, "OW", np.packbits(marked.ravel(), bitorder="little").tobytes())
    dataset.save_as(path)

    radiograph = read(path)

    assert radiograph.pixels[:, :20].max() == 0.0
    assert radiograph.pixels[:, 20:].min(axis=0).max() > 0.0
    assert "16% outside the display shutter left out" in radiograph.greys
    assert radiograph.notes == ()


@pytest.mark.parametrize(
    ("shape", "named"),
    [("BITMAP", "BITMAP"), ("CIRCULAR", "CIRCULAR"), (["POLYGONAL", "OVAL"], "OVAL, POLYGONAL")],
)
def test_a_shutter_that_cannot_be_applied_is_noted(
    shape: str | list[str], named: str, tmp_path: Path
) -> None:
    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", ShutterShape=shape))

    assert radiograph.notes == (f"The display shutter of shape {named} cannot be applied; it was ignored.",)
    assert distance(radiograph) < 0.006


def test_a_shutter_that_hides_everything_is_ignored_with_a_note(tmp_path: Path) -> None:
    path = radiographs.write_dicom(
        tmp_path / "f.dcm", ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=500
    )

    radiograph = read(path)

    assert distance(radiograph) < 0.006
    assert "shutter" in radiograph.notes[0]


@pytest.mark.parametrize(
    ("stored", "bits", "said", "meant"),
    [
        (GREY12.astype(np.int16) - 2048, 12, 0, "signed"),
        (GREY12.astype(np.int16) - 2048, 16, 0, "signed"),
        (radiographs.quantised(16), 16, 1, "unsigned"),
        (GREY12, 12, 1, "unsigned"),
    ],
)
def test_a_wrong_sign_is_found_by_the_greys_that_wrap_around(
    stored: np.ndarray, bits: int, said: int, meant: str, tmp_path: Path
) -> None:
    radiograph = read(
        radiographs.write_dicom(
            tmp_path / "f.dcm", stored, PixelRepresentation=said, BitsStored=bits, HighBit=bits - 1
        )
    )

    assert distance(radiograph) < 0.006
    assert any(f"they were read as {meant} ones" in note for note in radiograph.notes)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_words_in_the_other_byte_order_are_found(syntax: str, tmp_path: Path) -> None:
    radiograph = read(radiographs.write_dicom(tmp_path / "f.dcm", GREY12.byteswap(), syntax))

    assert distance(radiograph) < 0.006
    assert any("bytes stand in the other order" in note for note in radiograph.notes)


def test_a_sign_that_fits_is_left_with_padding_far_off(tmp_path: Path) -> None:
    """The padding of -2000 written without sign is 63536, far from every grey."""
    stored = GREY12.astype(np.uint16)
    stored[:, :20] = 63536
    bits = {"BitsStored": 16, "HighBit": 15}
    path = radiographs.write_dicom(tmp_path / "f.dcm", stored, PixelPaddingValue=63536, **bits)

    assert read(path).notes == ()


def test_pixels_of_another_shape_than_the_header_says_are_refused(tmp_path: Path) -> None:
    """Words of 16 bits that are called bytes look like two frames."""
    path = radiographs.write_dicom(tmp_path / "f.dcm", GREY12, BitsAllocated=8)

    with pytest.raises(
        InputError, match=r"Expected one image of 128 x 160 pixels, got pixels of shape \(2, 160"
    ):
        read_radiograph(path)


@pytest.mark.parametrize("keyword", ["SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEGLSLossless])
def test_an_element_about_the_pixels_that_was_lost_is_noted(
    keyword: str, syntax: str, tmp_path: Path
) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm", GREY12, syntax)
    dataset = pydicom.dcmread(path)
    del dataset[keyword]
    dataset.save_as(path)

    radiograph = read(path)

    assert distance(radiograph) < 0.006
    assert any(keyword in note for note in radiograph.notes)


def test_a_shutter_whose_edges_are_exchanged_is_the_same(tmp_path: Path) -> None:
    edges = {"ShutterUpperHorizontalEdge": 1, "ShutterLowerHorizontalEdge": 160}
    hidden = [
        read(
            radiographs.write_dicom(
                tmp_path / "f.dcm",
                ShutterShape="RECTANGULAR",
                ShutterLeftVerticalEdge=left,
                ShutterRightVerticalEdge=right,
                **edges,
            )
        )
        for left, right in ((21, 108), (108, 21))
    ]

    assert np.array_equal(hidden[0].pixels, hidden[1].pixels)
    assert (
        hidden[0].greys == hidden[1].greys == "12-bit MONOCHROME2, 31% outside the display shutter left out"
    )


@pytest.mark.parametrize("fragments", [1, 3])
def test_uncompressed_pixels_in_fragments_are_put_together(fragments: int, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(radiographs.write_dicom(tmp_path / "f.dcm"))
    dataset.PixelData = encapsulate([dataset.PixelData], fragments_per_frame=fragments)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.98"
    dataset.save_as(tmp_path / "f.dcm")

    radiograph = read(tmp_path / "f.dcm")

    assert distance(radiograph) < 0.006
    assert radiograph.greys == "12-bit MONOCHROME2"
