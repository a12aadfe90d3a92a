"""Parts of a DICOM image that show no patient: padding, and the area that its display shutter hides."""

import re

import numpy as np
from pydicom.dataset import Dataset

from xray2ctpa_core.io.dicom_header import integer, number, numbers, text

#: A shutter that leaves less than this share of the image is taken for a header error.
LEAST_OPEN = 0.05
_SHAPES = ("RECTANGULAR", "CIRCULAR", "POLYGONAL", "BITMAP")


def padding_mask(dataset: Dataset, *forms: tuple[np.ndarray, int]) -> np.ndarray | None:
    """(H, W) bool: PixelPaddingValue (FloatPixelPaddingValue) up to its range limit; None if no pixel or
    every pixel is padding.

    Args:
        dataset: the header. Its value may be written with the other sign than the pixels have (63536 for
            -2000): values are compared modulo their bits.
        forms: the pixels (H, W) and their number of bits, in one or several forms: padding may use bits above
            BitsStored. The first form that has any is used.
    """
    kind = next((kind for kind in ("Float", "DoubleFloat") if f"{kind}PixelData" in dataset), "")
    value, limit = (
        number(dataset, f"{kind}PixelPadding{end}") if kind else integer(dataset, f"PixelPadding{end}", None)
        for end in ("Value", "RangeLimit")
    )
    if value is None:
        return None
    limit = value if limit is None else limit
    start, span = min(value, limit), abs(limit - value)
    for pixels, bits in forms:
        if np.issubdtype(pixels.dtype, np.integer):
            padding = (pixels.astype(np.int64) - start) % (1 << bits) <= span
        else:
            padding = (pixels >= pixels.dtype.type(start)) & (pixels <= pixels.dtype.type(start + span))
        if padding.any():
            return None if padding.all() else padding
    return None


def shutter_mask(dataset: Dataset, shape: tuple[int, int], notes: list[str]) -> np.ndarray | None:
    """(H, W) bool: area that the display shutter hides (PS3.3 C.7.6.11); None if there is none.

    Of several shapes, each hides its own area. Rows and columns count from 1; edges are not hidden. A shape
    that is unknown, or whose numbers are missing, is noted.
    """
    shapes = text(dataset, "ShutterShape")
    missing = [word for word in re.findall(r"\w+", shapes) if word not in _SHAPES]
    hidden = np.zeros(shape, bool)
    row, column = (axis + 1 for axis in np.indices(shape, sparse=True))
    if "RECTANGULAR" in shapes:
        left, right, top, bottom = (
            integer(dataset, f"Shutter{edge}Edge", default)
            for edge, default in (
                ("LeftVertical", 1),
                ("RightVertical", shape[1]),
                ("UpperHorizontal", 1),
                ("LowerHorizontal", shape[0]),
            )
        )
        left, right, top, bottom = (
            *sorted((left, right)),
            *sorted((top, bottom)),
        )  # whichever is named first
        hidden |= (column < left) | (column > right) | (row < top) | (row > bottom)
    if "CIRCULAR" in shapes:
        centre, radius = (
            numbers(dataset, "CenterOfCircularShutter"),
            integer(dataset, "RadiusOfCircularShutter", 0),
        )
        if len(centre) == 2 and radius > 0:
            hidden |= (row - centre[0]) ** 2 + (column - centre[1]) ** 2 > radius**2
        else:
            missing.append("CIRCULAR")
    if "POLYGONAL" in shapes:
        vertices = numbers(dataset, "VerticesOfThePolygonalShutter")
        if len(vertices) >= 6 and len(vertices) % 2 == 0:
            hidden |= _outside_polygon(np.reshape(vertices, (-1, 2)), shape)
        else:
            missing.append("POLYGONAL")
    if "BITMAP" in shapes:
        bitmap = _bitmap(dataset, shape)
        if bitmap is None:
            missing.append("BITMAP")
        else:
            hidden |= bitmap
    if missing:
        notes.append(f"The display shutter of shape {', '.join(missing)} cannot be applied; it was ignored.")
    if not hidden.any():
        return None
    if 1 - hidden.mean() < LEAST_OPEN:
        notes.append("The display shutter hides nearly the whole image; it was ignored.")
        return None
    return hidden


def _bitmap(dataset: Dataset, shape: tuple[int, int]) -> np.ndarray | None:
    """(H, W) bool: the overlay that the header names as shutter (PS3.3 C.7.6.15); None if it does not fit."""
    group = integer(dataset, "ShutterOverlayGroup", 0)
    rows, columns = (dataset.get((group, element)) for element in (0x0010, 0x0011))
    data = dataset.get((group, 0x3000))
    if rows is None or columns is None or data is None or (rows.value, columns.value) != shape:
        return None
    bits = np.unpackbits(np.frombuffer(bytes(data.value), np.uint8), bitorder="little")
    return bits[: shape[0] * shape[1]].reshape(shape).astype(bool) if bits.size >= np.prod(shape) else None


def _outside_polygon(vertices: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, True outside the polygon of (row, column) ``vertices`` that count from 1."""
    from PIL import Image, ImageDraw

    image = Image.new("1", (shape[1], shape[0]), 1)
    ImageDraw.Draw(image).polygon([(float(c - 1), float(r - 1)) for r, c in vertices], fill=0, outline=0)
    return np.asarray(image)
