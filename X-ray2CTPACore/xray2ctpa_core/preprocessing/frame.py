"""The square frame of a radiograph that the networks read, resampled, with a common grey scale."""

import numpy as np

from xray2ctpa_core.constants import FRAME_MARGIN, FRAME_PIXELS
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.preprocessing.content import content_box
from xray2ctpa_core.volume import FrontalFrame

#: Name of `frame_image`'s treatment of greys in bundles.
NORMALISATION = "equalised"
#: Greys within this share of the range from the darkest or brightest count as saturated ...
SATURATION = 0.015
#: ... and each saturated end has at most this weight in the equalisation, as a share of the other pixels.
SATURATED_SHARE = 0.05
#: Greys that differ by less than this (rounding of the resampling) count as one grey.
FLAT = 1e-5


def frame_from_lung_box(top: float, left: float, bottom: float, right: float) -> FrontalFrame:
    """Square of FRAME_MARGIN times the box's longer side, centred on the box.

    Args:
        top, left, bottom, right: edges of the lungs' bounding box in radiograph pixels.

    Raises:
        InputError: if the box is empty or not finite.
    """
    if not np.isfinite([top, left, bottom, right]).all() or bottom <= top or right <= left:
        raise InputError(
            f"Expected a lung box with top < bottom and left < right, got {(top, left, bottom, right)}."
        )
    side = FRAME_MARGIN * max(bottom - top, right - left)
    return FrontalFrame(top=(top + bottom - side) / 2, left=(left + right - side) / 2, side=side)


def frame_image(pixels: np.ndarray, frame: FrontalFrame, size: int = FRAME_PIXELS) -> np.ndarray:
    """The frame as network input, resampled without aliasing and with equalised greys.

    Simulated and real radiographs differ in exposure and grey curve; the rank of a grey inside the frame does
    not change under any increasing curve. Padding, area outside the image and saturated greys (collimation,
    burned-in letters, air) hardly count in the ranks.

    Args:
        pixels: (H, W) float32, bright = attenuating, any range.
        frame: square in radiograph pixels; outside the radiograph the nearest edge pixel is repeated.
        size: pixels along a side of the result.

    Returns:
        (size, size) float32 in [0, 1].
    """
    square = resample_square(pixels, frame, size)
    top, left, bottom, right = content_box(pixels)
    step = frame.side / size
    rows = frame.top + (np.arange(size) + 0.5) * step
    columns = frame.left + (np.arange(size) + 0.5) * step
    inside = np.outer((rows >= top) & (rows <= bottom), (columns >= left) & (columns <= right))
    return equalise(square, inside if inside.any() else np.ones_like(inside))


def resample_square(pixels: np.ndarray, frame: FrontalFrame, size: int) -> np.ndarray:
    """(size, size) float32: the frame's pixels through a triangle filter as wide as the coarser grid."""
    row_weights, rows = _axis_weights(frame.top, frame.side, pixels.shape[0], size)
    column_weights, columns = _axis_weights(frame.left, frame.side, pixels.shape[1], size)
    part = np.asarray(pixels[rows, columns], dtype=np.float32)
    return row_weights @ part @ column_weights.T


def equalise(image: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Exact histogram equalisation: each grey becomes its mid-rank among the counted pixels.

    Args:
        image: (H, W) float.
        counted: (H, W) bool, the pixels whose greys define the ranks; every pixel is mapped.

    Returns:
        (H, W) float32 in [0, 1]; equal greys stay equal, order is kept; 0.5 everywhere for a flat image.
    """
    greys = image[counted]
    low, high = float(greys.min()), float(greys.max())
    if high - low <= FLAT * max(1.0, abs(high)):
        return np.full(image.shape, 0.5, np.float32)
    margin = SATURATION * (high - low)
    levels, places, counts = np.unique(greys, return_inverse=True, return_counts=True)
    weights = counts.astype(np.float64)
    ends = (levels <= low + margin, levels >= high - margin)
    middle = weights[~(ends[0] | ends[1])].sum()
    for end in ends if middle > 0 else ():
        weights[end] *= min(1.0, SATURATED_SHARE * middle / weights[end].sum())
    ranks = (np.cumsum(weights) - weights / 2) / weights.sum()
    result = np.empty(image.shape, np.float32)
    result[counted] = ranks[places]
    result[~counted] = np.interp(image[~counted], levels, ranks)
    return result


def _axis_weights(start: float, extent: float, length: int, size: int) -> tuple[np.ndarray, slice]:
    """Resampling along one axis.

    Returns:
        (size, M) float32 weights with rows that sum to 1, and the slice of the M radiograph pixels they read.
    """
    step = extent / size
    reach = max(1.0, step)
    centres = start + (np.arange(size) + 0.5) * step - 0.5
    offsets = np.arange(-int(np.ceil(reach)), int(np.ceil(reach)) + 2)
    taps = np.floor(centres)[:, None].astype(int) + offsets
    weights = np.clip(1 - np.abs(taps - centres[:, None]) / reach, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    taps = np.clip(taps, 0, length - 1)
    first, last = int(taps.min()), int(taps.max()) + 1
    matrix = np.zeros((size, last - first), dtype=np.float32)
    np.add.at(matrix, (np.arange(size)[:, None], taps - first), weights)
    return matrix, slice(first, last)
