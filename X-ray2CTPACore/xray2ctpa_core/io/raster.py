"""Radiographs in PNG, JPEG and TIFF files."""

import io
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import ExifTags, Image, ImageOps

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.exif import upright, upright_aspect
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.names import RASTER_SIGNATURES
from xray2ctpa_core.io.raw_radiograph import (
    MAX_PIXELS,
    RawRadiograph,
    check_dimensions,
    radiograph_of_channels,
)
from xray2ctpa_core.io.tiff import is_wide, read_wide_tiff, tiff_aspect, tiff_page

_FORMATS = ("PNG", "JPEG", "TIFF")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff")
_TIFF_SIGNATURES = RASTER_SIGNATURES[2:]
_PNG_BIT_DEPTH_OFFSET, _PNG_COLOUR_OFFSET, _PNG_GREY_ALPHA = 24, 25, 4
_TIFF_PHOTOMETRIC_TAG, _TIFF_SAMPLE_FORMAT_TAG = 262, 339
_WIDE_GREY_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def is_raster(path: Path) -> bool:
    """Whether the first bytes or the suffix are those of PNG, JPEG or TIFF."""
    return _head(path).startswith(RASTER_SIGNATURES) or path.suffix.lower() in _SUFFIXES


def read_raster_radiograph(path: Path) -> RawRadiograph:
    """Reads a PNG, JPEG or TIFF: grey, palette or colour of any depth, with or without alpha.

    Alpha, the orientation in EXIF, and pixels that are not square are applied; a TIFF's thumbnails are
    ignored.

    Raises:
        InputError: damaged, of another kind, several pages, too small or too large.
    """
    with reading(path, "PNG, JPEG or TIFF"):
        if not _head(path).startswith(_TIFF_SIGNATURES):
            return _read_by_pillow(path)
        index, page = tiff_page(path)
        if is_wide(page):
            try:
                return read_wide_tiff(path, index)
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                _check_pillow_can(page, path)
        return replace(
            _read_by_pillow(path, index),
            aspect=upright_aspect(tiff_aspect(page), int(page.tags.valueof(274, default=1))),
        )


def _read_by_pillow(path: Path, page: int = 0) -> RawRadiograph:
    # Given a name, Pillow maps an uncompressed TIFF into memory and garbles orientations 5 to 8.
    with path.open("rb") as file:
        try:
            image = Image.open(file, formats=_FORMATS)
        except Image.DecompressionBombError as error:
            raise InputError(
                f"Expected at most {MAX_PIXELS // 1_000_000} million pixels, got {path.name} with far more.",
                "Reduce the image; 2000 pixels a side are more than enough.",
            ) from error
        with image:
            if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
                raise InputError(
                    f"Expected one page, got {path.name} with {image.n_frames}.",  # type: ignore[attr-defined]
                    "Export the frontal view alone.",
                )
            if page:
                image.seek(page)
            check_dimensions(image.height, image.width, path.name)
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            aspect = upright_aspect(_aspect(image), orientation)
            if _is_wide_png(image, path):
                channels = _wide_png(path)
                radiograph = radiograph_of_channels(upright(channels, orientation), 65535.0)
                return replace(radiograph, aspect=aspect, steps=(f"16-bit {image.format}", *radiograph.steps))
            return replace(_pillow_radiograph(image), aspect=aspect)


def _pillow_radiograph(image: Image.Image) -> RawRadiograph:
    tags = getattr(image, "tag_v2", {})
    oriented = ImageOps.exif_transpose(image)
    if oriented.mode not in _WIDE_GREY_MODES:
        radiograph = radiograph_of_channels(_eight_bit_channels(oriented), 255.0)
        return replace(radiograph, steps=(f"8-bit {image.format}", *radiograph.steps))
    values = np.asarray(oriented)
    if oriented.mode == "I" and tags.get(_TIFF_SAMPLE_FORMAT_TAG, (1,))[0] == 1 and image.format == "TIFF":
        values = values.view(np.uint32)
    values = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    depth = {"F": "32-bit float", "I": "32-bit"}.get(oriented.mode, "16-bit")
    # Pillow itself inverts greys of up to 8 bits.
    inverted = tags.get(_TIFF_PHOTOMETRIC_TAG) == 0
    return RawRadiograph(-values if inverted else values, steps=(f"{depth} {image.format}",))


def _check_pillow_can(page: object, path: Path) -> None:
    """Raises InputError for compressed wide colour, which Pillow would cut to 8 bits."""
    if getattr(page, "samplesperpixel", 1) > 1:
        name = getattr(getattr(page, "compression", None), "name", "unknown")
        raise InputError(
            f"Expected a TIFF whose compression can be decoded, got {path.name} with colour of more than 8 "
            f"bits by {name}.",
            "Save it without compression, as PNG, or install the package imagecodecs.",
        )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_PNG_BIT_DEPTH_OFFSET + 1)


def _is_wide_png(image: Image.Image, path: Path) -> bool:
    """Whether a PNG has 16-bit channels that Pillow would cut to 8 (of 12 bits 16 greys would be left)."""
    return image.format == "PNG" and image.mode not in _WIDE_GREY_MODES and _head(path)[-1] == 16


def _wide_png(path: Path) -> np.ndarray:
    """(H, W, C) uint16, C = 2 grey and alpha, 3 RGB, 4 RGBA.

    ITK reads no grey with alpha. Its pixels have as many bytes as 8-bit RGBA's, and PNG's filters depend on
    that number alone; read as RGBA, its channels are the higher and the lower bytes.
    """
    content = path.read_bytes()
    if content[_PNG_COLOUR_OFFSET] != _PNG_GREY_ALPHA:
        return np.atleast_3d(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    header = content[12:_PNG_BIT_DEPTH_OFFSET] + b"\x08\x06" + content[26:29]
    renamed = content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]
    halves = np.asarray(Image.open(io.BytesIO(renamed), formats=("PNG",)), np.uint16)
    return halves[..., 0::2] * 256 + halves[..., 1::2]


def _aspect(image: Image.Image) -> float:
    """Height of a stored pixel over its width, by the densities of PNG and JPEG; 1 if they are missing."""
    density = image.info.get("jfif_density") or image.info.get("aspect") or image.info.get("dpi") or (1, 1)
    horizontal, vertical = float(density[0]), float(density[1])
    return horizontal / vertical if horizontal > 0 and vertical > 0 else 1.0


def _eight_bit_channels(image: Image.Image) -> np.ndarray:
    """(H, W, C) uint8 with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    transparent = "transparency" in image.info
    if image.mode in ("1", "L"):
        image = image.convert("LA" if transparent else "L")
    elif image.mode in ("LA", "La"):
        image = image.convert("LA")
    else:
        has_alpha = transparent or image.mode in ("RGBA", "RGBa", "PA")
        image = image.convert("RGBA" if has_alpha else "RGB")
    return np.atleast_3d(np.asarray(image))
