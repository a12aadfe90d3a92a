"""Radiographs in TIFF files of more than 8 bits: any layout, sign and depth, and which page is the image."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.exif import upright, upright_aspect
from xray2ctpa_core.io.lzw import LZW, teach_tifffile
from xray2ctpa_core.io.raw_radiograph import RawRadiograph, check_dimensions, radiograph_of_channels

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
#: Bits of NewSubfileType, and the value of the older SubfileType, that say that a page is not the image.
_REDUCED_OR_MASK, _OLD_REDUCED = 0b101, 2
#: A page that is smaller than another by this factor along both sides is its thumbnail.
_THUMBNAIL_FACTOR = 2
#: Depths at which pixels follow one another without a gap, and the one whose pixels are three bytes.
_PACKED_BITS, _THREE_BYTES = (*range(9, 16), 24), 24
_ALPHA = {1: "associated", 2: "unassociated"}


def tiff_page(path: Path) -> "tuple[int, tifffile.TiffPage]":
    """The page that holds the image, and its index; pages marked as thumbnails or masks, or far smaller than
    another one, are left out.

    Raises:
        InputError: several images.
    """
    with _opened(path) as file:
        pages = [(n, page.aspage()) for n, page in enumerate(file.pages)]
        stacked = int((file.imagej_metadata or {}).get("images", 1))
    images = [(n, page) for n, page in pages if not _is_marked(page)] or pages
    height, width = (max(getattr(p, side) for _, p in images) for side in ("imagelength", "imagewidth"))
    images = [
        (n, page)
        for n, page in images
        if page.imagelength * _THUMBNAIL_FACTOR > height or page.imagewidth * _THUMBNAIL_FACTOR > width
    ]
    count = max(len(images), stacked, *(page.imagedepth for _, page in images))
    if count > 1:
        raise InputError(
            f"Expected one page, got {path.name} with {count}.", "Export the frontal view alone."
        )
    return images[0]


def is_wide(page: "tifffile.TiffPage") -> bool:
    """Whether ``page`` holds grey or colour that Pillow would cut, or take for another number."""
    known = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK)
    # Of these Pillow reads all bits, and faster.
    grey_by_lzw = page.compression == LZW and page.samplesperpixel == 1 and page.bitspersample in (16, 32)
    return known and not grey_by_lzw and (page.bitspersample > 8 or page.sampleformat != 1)


def read_wide_tiff(path: Path, index: int) -> RawRadiograph:
    """Page ``index`` of ``path``, of which ``is_wide`` is true.

    Raises:
        InputError: another number of samples or kind of numbers than a radiograph has.
        ValueError: a compression that tifffile leaves to the package imagecodecs, which is not installed.
    """
    teach_tifffile()
    with _opened(path) as file:
        page = file.pages[index].aspage()
        check_dimensions(page.imagelength, page.imagewidth, path.name)
        array = _packed(file, page) if page.bitspersample in _PACKED_BITS else page.asarray()
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise InputError(f"Expected real pixels, got {array.dtype} in {path.name}.", "Export grey values.")
    if page.samplesperpixel > 1 and int(page.planarconfig) == 2:
        array = np.moveaxis(array, 0, -1)
    channels = array.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    if page.photometric == _PALETTE and page.colormap is not None:
        channels = np.moveaxis(page.colormap[:, channels[..., 0]], 0, -1)
    if page.photometric == _CMYK and channels.shape[2] >= 4:
        channels = _of_inks(channels)
    orientation = int(page.tags.valueof(274, default=1))
    radiograph = _raw(upright(channels, orientation), page)
    return RawRadiograph(
        -radiograph.values if page.photometric == _WHITE_IS_ZERO else radiograph.values,
        padding=radiograph.padding,
        aspect=upright_aspect(tiff_aspect(page), orientation),
        steps=(f"{page.bitspersample}-bit {array.dtype.name} TIFF", *radiograph.steps),
        notes=radiograph.notes,
    )


def tiff_aspect(page: "tifffile.TiffPage") -> float:
    """Height of a stored pixel over its width, from the resolutions; 1 where they do not say."""
    horizontal, vertical = page.get_resolution(1)
    return horizontal / vertical if horizontal > 0 and vertical > 0 else 1.0


def _raw(channels: np.ndarray, page: "tifffile.TiffPage") -> RawRadiograph:
    """Grey or colour with at most one alpha channel, whatever other samples the page has."""
    colours = 3 if page.photometric in (_RGB, _PALETTE, _CMYK) else 1
    extra = [int(kind) for kind in page.extrasamples][: channels.shape[2] - colours]
    alpha = next((colours + n for n, kind in enumerate(extra) if kind in _ALPHA), None)
    kept = [*range(colours), *([] if alpha is None else [alpha])]
    integer = np.issubdtype(channels.dtype, np.integer)
    full_scale = float(np.iinfo(channels.dtype).max) if integer else 1.0
    premultiplied = alpha is not None and extra[alpha - colours] == 1
    return radiograph_of_channels(channels[..., kept], full_scale, premultiplied)


def _of_inks(channels: np.ndarray) -> np.ndarray:
    """(H, W, 3) of the channels' dtype: red, green and blue of cyan, magenta, yellow and black."""
    full_scale = np.iinfo(channels.dtype).max if np.issubdtype(channels.dtype, np.integer) else 1.0
    paper = 1 - channels[..., :4].astype(np.float64) / full_scale
    return np.rint(paper[..., :3] * paper[..., 3:] * full_scale).astype(channels.dtype)


@contextmanager
def _opened(path: Path) -> "Iterator[tifffile.TiffFile]":
    """The file within the context; tifffile's remarks on damage stay off the terminal."""
    logger = logging.getLogger("tifffile")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    finally:
        logger.disabled = was_disabled


def _is_marked(page: "tifffile.TiffPage") -> bool:
    old = int(page.tags.valueof(255, default=1))
    return bool(int(page.subfiletype) & _REDUCED_OR_MASK) or old == _OLD_REDUCED


def _packed(file: "tifffile.TiffFile", page: "tifffile.TiffPage") -> np.ndarray:
    """(H, W * samples) of an uncompressed page in strips, whose rows begin at whole bytes: uint16, or 32 bits
    for pixels of three bytes."""
    depth = page.bitspersample
    if int(page.compression) != 1 or page.is_tiled or int(page.planarconfig) == 2 or page.sampleformat > 2:
        raise InputError(
            f"Expected a TIFF with pixels of 8, 16 or 32 bits, got {file.filename} with {depth} bits, "
            "compressed, tiled, in planes or as floating point.",
            "Save it with 16 bits, as TIFF or PNG.",
        )
    segments = file.filehandle.read_segments(page.dataoffsets, page.databytecounts)
    raw = b"".join(segment[0] or b"" for segment in segments if isinstance(segment, tuple))
    width = page.imagewidth * page.samplesperpixel
    rows = np.frombuffer(raw, np.uint8)[: page.imagelength * -(-width * depth // 8)].reshape(
        page.imagelength, -1
    )
    if depth == _THREE_BYTES:
        highest_first = rows.reshape(page.imagelength, width, 3)[..., :: -1 if file.byteorder == "<" else 1]
        wide = np.pad(highest_first, ((0, 0), (0, 0), (0, 1))).view(
            ">i4" if page.sampleformat == 2 else ">u4"
        )
        return wide[..., 0].astype(wide.dtype.newbyteorder("="))
    bits = np.unpackbits(rows, axis=1)[:, : width * depth].reshape(page.imagelength, width, depth)
    return (bits @ (1 << np.arange(depth - 1, -1, -1))).astype(np.uint16)
