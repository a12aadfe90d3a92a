"""TIFFs of every depth, sign and layout; thumbnails and pixels that are not square."""

import importlib.util
import io
from pathlib import Path
from typing import Any

import io_radiographs as radiographs
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.lzw import decode_lzw
from xray2ctpa_core.io.radiograph import read_radiograph

GREY12, GREY16 = radiographs.quantised(12), radiographs.quantised(16)
EXPECTED = radiographs.expected_pixels()
RGB12 = np.dstack([GREY12] * 3)
WHOLE = np.full_like(GREY16, 65535)
WIDE = GREY16.astype(np.int64) << 15

#: Name -> pixels and options of tifffile's imwrite.
FORMS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "uint32": (WIDE.astype(np.uint32) * 2, {}),
    "uint32 of few greys far up": (GREY12.astype(np.uint32) + (1 << 31), {}),
    "int32": ((WIDE - (1 << 30)).astype(np.int32), {}),
    "int16": ((GREY12.astype(np.int32) - 1000).astype(np.int16), {}),
    "int8": ((radiographs.quantised(8).astype(np.int32) - 128).astype(np.int8), {}),
    "float64": (radiographs.picture().astype(np.float64) * 1e-6, {}),
    "float16": (radiographs.picture().astype(np.float16), {}),
    "uint32 white is zero": ((1 << 31) - WIDE.astype(np.uint32), {"photometric": "miniswhite"}),
    "tiled": (GREY16, {"tile": (64, 64)}),
    "tiled, deflated, predicted": (GREY16, {"tile": (64, 64), "compression": "zlib", "predictor": True}),
    "big endian": (GREY16, {"byteorder": ">"}),
    "BigTIFF": (GREY16, {"bigtiff": True}),
    "rgb tiled": (RGB12, {"tile": (64, 64), "photometric": "rgb"}),
    "rgb planar": (np.moveaxis(RGB12, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    "rgb planar and tiled": (
        np.moveaxis(RGB12, 2, 0),
        {"photometric": "rgb", "planarconfig": "separate", "tile": (32, 32)},
    ),
    "grey with alpha": (
        np.dstack([GREY16, WHOLE]),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
    ),
    "grey with an unknown sample": (
        np.dstack([GREY16, GREY16[::-1]]),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unspecified"]},
    ),
    "cyan, magenta, yellow, black": (
        np.dstack([WHOLE - (GREY12.astype(np.uint16) << 3)] * 3 + [0 * GREY16]),
        {"photometric": "separated"},
    ),
    "black ink alone": (
        np.dstack([0 * GREY16] * 3 + [WHOLE - GREY12]),
        {"photometric": "separated"},
    ),
    "rgb with alpha": (np.dstack([RGB12, WHOLE]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_tiff_of_any_form_gives_its_greys(
    form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels, options = FORMS[form]
    tifffile.imwrite(tmp_path / "f.tif", pixels, **options)

    radiograph = read_radiograph(tmp_path / "f.tif")

    assert np.abs(radiograph.pixels - EXPECTED).mean() < 0.006
    assert radiograph.notes == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("depth", [10, 12, 14])
def test_pixels_without_a_gap_are_unpacked(depth: int, tmp_path: Path) -> None:
    """A row is written as the bytes it occupies, and the header is changed to that of the pixels."""
    bits = np.unpackbits((GREY16 >> (16 - depth)).astype(">u2").view(np.uint8), axis=1)
    pixels = bits.reshape(len(GREY16), -1, 16)[..., 16 - depth :]
    tifffile.imwrite(tmp_path / "f.tif", np.packbits(pixels.reshape(len(pixels), -1), axis=1))
    with tifffile.TiffFile(tmp_path / "f.tif", mode="r+b") as file:
        tags = file.pages[0].aspage().tags
        tags[256].overwrite(GREY16.shape[1])
        tags[258].overwrite(depth)

    radiograph = read_radiograph(tmp_path / "f.tif")

    assert np.abs(radiograph.pixels - EXPECTED).mean() < 0.006
    assert radiograph.greys == f"{depth}-bit uint16 TIFF"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["grey", "white is zero", "signed", "colour"])
def test_pixels_of_three_bytes_are_read(form: str, order: str, tmp_path: Path) -> None:
    """Rows are written as 8-bit pixels, and the header is changed to that of the pixels."""
    wide = GREY16.astype(np.int64) << 8
    wide = {"white is zero": (1 << 24) - 1 - wide, "signed": (wide - (1 << 23)) % (1 << 24)}.get(form, wide)
    three = (
        wide.astype(">u4").view(np.uint8).reshape(*wide.shape, 4)[..., 1:][..., :: 1 if order == ">" else -1]
    )
    colour = form == "colour"
    rows = np.repeat(three[:, :, None], 3, axis=2).reshape(len(wide), -1, 3) if colour else three
    rows = rows if colour else rows.reshape(len(wide), -1)
    rows = rows.view(np.int8) if form == "signed" else rows
    tifffile.imwrite(tmp_path / "f.tif", rows, byteorder=order, photometric="rgb" if colour else "minisblack")
    with tifffile.TiffFile(tmp_path / "f.tif", mode="r+b") as file:
        tags = file.pages[0].aspage().tags
        tags[256].overwrite(wide.shape[1])
        tags[258].overwrite((24, 24, 24) if colour else 24)
        if form == "white is zero":
            tags[262].overwrite(0)

    radiograph = read_radiograph(tmp_path / "f.tif")

    assert np.abs(radiograph.pixels - EXPECTED).mean() < 0.006
    assert radiograph.notes == ()
    assert len(np.unique(radiograph.pixels)) > 1000


def test_three_bytes_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", radiographs.quantised(8))
    with tifffile.TiffFile(tmp_path / "f.tif", mode="r+b") as file:
        tags = file.pages[0].aspage().tags
        tags[258].overwrite(24)
        tags[259].overwrite(8)

    with pytest.raises(InputError, match="with 24 bits, compressed") as caught:
        read_radiograph(tmp_path / "f.tif")
    assert caught.value.hint == "Save it with 16 bits, as TIFF or PNG."


def test_transparency_of_16_bits_counts_as_no_radiograph(tmp_path: Path) -> None:
    alpha = WHOLE.copy()
    alpha[:40] = 0
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "f.tif", np.dstack([GREY16, alpha]), **options)

    radiograph = read_radiograph(tmp_path / "f.tif")

    assert radiograph.pixels[:40].max() == 0.0
    assert "ransparent" in radiograph.notes[0]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("mark", [{"subfiletype": 1}, {}])
@pytest.mark.parametrize("pixels", [GREY16, radiographs.quantised(8)], ids=["16 bit", "8 bit"])
def test_a_thumbnail_before_or_behind_is_left_out(
    pixels: np.ndarray, mark: dict[str, int], order: int, tmp_path: Path
) -> None:
    pages = [(pixels, {}), (np.ascontiguousarray(pixels[::4, ::4]), mark)][::order]
    with tifffile.TiffWriter(tmp_path / "f.tif") as file:
        for page, options in pages:
            file.write(page, photometric="minisblack", metadata=None, **options)

    assert np.abs(read_radiograph(tmp_path / "f.tif").pixels - EXPECTED).mean() < 0.006


def test_two_pages_of_one_size_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.stack([GREY16, GREY16]), photometric="minisblack")

    with pytest.raises(InputError, match=r"Expected one page, got f\.tif with 2"):
        read_radiograph(tmp_path / "f.tif")


@pytest.mark.parametrize("name", ["f.tif", "8.tif", "f.png", "f.jpg"])
def test_pixels_that_are_not_square_become_so(name: str, tmp_path: Path) -> None:
    """Every other row is left out: pixels are twice as high as wide, half as many an inch from row to row."""
    path = tmp_path / name
    if name == "f.tif":
        tifffile.imwrite(path, np.ascontiguousarray(GREY16[::2]), resolution=(200, 100), resolutionunit=2)
    else:
        rows = Image.fromarray(radiographs.quantised(8)[::2])
        rows.save(path, dpi=(200, 100), **({"quality": 95} if name == "f.jpg" else {}))

    radiograph = read_radiograph(path)

    assert radiograph.pixels.shape == EXPECTED.shape
    assert np.abs(radiograph.pixels - EXPECTED).mean() < 0.02
    assert "2 times as high as wide" in radiograph.notes[0]
    assert radiograph.spacing_mm is None


def test_a_damaged_tiff_is_refused_without_a_word_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "f.tif", GREY16)
    whole = (tmp_path / "f.tif").read_bytes()
    for end in (12, 60, 150, len(whole) // 2):
        (tmp_path / "f.tif").write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"f\.tif"):
            read_radiograph(tmp_path / "f.tif")

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", ["strips", "tiles"])
def test_wide_colour_by_lzw_is_decoded(shape: str, tmp_path: Path) -> None:
    """ITK writes strips; for tiles Pillow's LZW of the bytes of one grey tile is put into a tiled file."""
    path = tmp_path / "f.tif"
    if shape == "strips":
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(path))
        writer.UseCompressionOn()
        writer.SetCompressor("LZW")
        writer.Execute(sitk.GetImageFromArray(RGB12, isVector=True))
    else:
        tifffile.imwrite(path, RGB12, photometric="rgb", tile=(160, 128))
        content = path.read_bytes()
        with tifffile.TiffFile(path) as file:
            page = file.pages[0].aspage()
            place, count = page.dataoffsets[0], page.databytecounts[0]
            tags = page.tags[259].offset, page.tags[325].offset
        packed = lzw_of(content[place : place + count])
        content = bytearray(content + packed)
        with tifffile.TiffFile(path) as file:
            offsets = file.pages[0].aspage().tags[324].offset
        content[tags[0] + 8 : tags[0] + 10] = (5).to_bytes(2, "little")
        content[tags[1] + 8 : tags[1] + 12] = len(packed).to_bytes(4, "little")
        content[offsets + 8 : offsets + 12] = (len(content) - len(packed)).to_bytes(4, "little")
        path.write_bytes(content)

    radiograph = read_radiograph(path)

    assert np.abs(radiograph.pixels - EXPECTED).mean() < 0.006
    assert len(np.unique(radiograph.pixels)) > 1000


def lzw_of(data: bytes) -> bytes:
    """Pillow's LZW strip of ``data`` as one row of 8-bit greys."""
    file = io.BytesIO()
    Image.frombytes("L", (len(data), 1), data).save(file, "TIFF", compression="tiff_lzw", tiffinfo={317: 1})
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        page = tiff.pages[0].aspage()
        assert len(page.dataoffsets) == 1
        return file.getvalue()[page.dataoffsets[0] : page.dataoffsets[0] + page.databytecounts[0]]


def test_lzw_gives_back_every_length_of_codes() -> None:
    """20,000 random bytes need codes of 12 bits and a cleared table."""
    data = np.random.default_rng(0).integers(0, 256, 20_000).astype(np.uint8).tobytes() + b"abab" * 500

    assert decode_lzw(lzw_of(data)) == data


def test_a_compression_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    if importlib.util.find_spec("imagecodecs") is not None:
        pytest.skip("imagecodecs is installed and decodes it")
    tifffile.imwrite(tmp_path / "f.tif", RGB12, photometric="rgb", tile=(64, 64))
    content = (tmp_path / "f.tif").read_bytes()
    uncompressed, webp = b"\x03\x01\x03\0\1\0\0\0\1\0", b"\x03\x01\x03\0\1\0\0\0\x51\xc3"
    assert content.count(uncompressed) == 1
    (tmp_path / "f.tif").write_bytes(content.replace(uncompressed, webp))

    with pytest.raises(InputError, match="WEBP"):
        read_radiograph(tmp_path / "f.tif")


def test_a_png_of_16_bit_grey_with_alpha_keeps_its_greys(tmp_path: Path) -> None:
    alpha = WHOLE.copy()
    alpha[:40] = 0
    radiographs.write_wide_colour(tmp_path / "f.png", np.dstack([GREY12, alpha]))

    radiograph = read_radiograph(tmp_path / "f.png")

    assert radiograph.pixels[:40].max() == 0.0
    assert len(np.unique(radiograph.pixels)) > 1000
