"""Radiographs in PNG, JPEG and TIFF files."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.film import MAX_PIXELS, Film, check_film_size, film_of_channels

_FORMATS = ("PNG", "JPEG", "TIFF")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_BIT_DEPTH_OFFSET = 24
_TIFF_PHOTOMETRIC_TAG = 262
_TIFF_WHITE_IS_ZERO = 0
_WIDE_GREY_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def is_raster(path: Path) -> bool:
    """Whether the first bytes or the suffix say PNG, JPEG or TIFF."""
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith(_SIGNATURES) or path.suffix.lower() in _SUFFIXES


def read_raster_film(path: Path) -> Film:
    """Reads a PNG, JPEG or TIFF: grey, palette or colour, 8 or 16 bit (TIFF: float too).

    Alpha and the orientation in EXIF are honoured.

    Raises:
        InputError: damaged, of another kind, several pages, too small or too large.
    """
    # Given a name, Pillow maps an uncompressed TIFF into memory and garbles orientations 5 to 8.
    with reading(path, "PNG, JPEG or TIFF"), path.open("rb") as file:
        try:
            image = Image.open(file, formats=_FORMATS)
        except Image.DecompressionBombError as error:
            raise InputError(
                f"Expected at most {MAX_PIXELS // 1_000_000} million pixels, got {path.name} with far more.",
                "Reduce the image; 2000 pixels a side are more than enough.",
            ) from error
        with image:
            check_film_size(image.height, image.width, path.name)
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise InputError(
                    f"Expected one page, got {path.name} with {image.n_frames}.",  # type: ignore[attr-defined]
                    "Export the frontal view alone.",
                )
            if _has_wide_colour(image, path):
                return film_of_channels(_wide_channels(image, path), 65535.0)
            white_is_zero = _is_white_zero(image)
            oriented = ImageOps.exif_transpose(image)
            if oriented.mode in _WIDE_GREY_MODES:
                values: np.ndarray = np.asarray(oriented, np.float64 if oriented.mode == "I" else np.float32)
                return Film(-values if white_is_zero else values)
            return film_of_channels(_eight_bit_channels(oriented), 255.0)


def _is_white_zero(image: Image.Image) -> bool:
    """Whether a TIFF stores film-like inverted greys; Pillow itself inverts those of up to 8 bits."""
    return (
        isinstance(image, TiffImagePlugin.TiffImageFile)
        and image.tag_v2.get(_TIFF_PHOTOMETRIC_TAG) == _TIFF_WHITE_IS_ZERO
    )


def _has_wide_colour(image: Image.Image, path: Path) -> bool:
    """Whether the file has 16-bit channels that Pillow would cut to 8 (12-bit films would keep 16 greys).

    Not so for a TIFF that has to be turned: there ITK cuts them too, and Pillow turns right.
    """
    if image.mode in _WIDE_GREY_MODES:
        return False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,)))
        return bits == 16 and image.tag_v2.get(ExifTags.Base.Orientation, 1) == 1
    if image.format != "PNG":
        return False
    with path.open("rb") as file:
        return file.read(_PNG_BIT_DEPTH_OFFSET + 1)[-1] == 16


def _wide_channels(image: Image.Image, path: Path) -> np.ndarray:
    """(H, W, C) uint16 through ITK, in the orientation that EXIF asks for."""
    channels = np.atleast_3d(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    transposed_by = {  # EXIF orientation -> what makes the picture upright
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }
    upright = transposed_by.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return channels if upright is None else upright(channels)


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
