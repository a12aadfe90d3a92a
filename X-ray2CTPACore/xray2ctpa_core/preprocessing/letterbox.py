"""A whole radiograph as the small square that the lung locator reads."""

import numpy as np

from xray2ctpa_core.preprocessing.content import content_box
from xray2ctpa_core.preprocessing.frame import equalise, resample_square
from xray2ctpa_core.volume import FrontalFrame

#: Pixels along a side of the locator's input.
LOCATOR_PIXELS = 128


def letterbox(
    pixels: np.ndarray, size: int = LOCATOR_PIXELS, content: tuple[int, int, int, int] | None = None
) -> tuple[np.ndarray, FrontalFrame]:
    """The radiograph's content, centred in a square with its aspect kept; equalised greys, zero outside the
    content.

    Args:
        pixels: (H, W) real, bright = attenuating.
        size: pixels along a side of the result.
        content: its content_box, if it is known.

    Returns:
        (size, size) float32 in [0, 1] and the square in radiograph pixels that it shows.
    """
    top, left, bottom, right = content or content_box(pixels)
    side = float(max(bottom - top, right - left))
    square = FrontalFrame((top + bottom - side) / 2, (left + right - side) / 2, side)
    step = side / size
    rows = square.top + (np.arange(size) + 0.5) * step
    columns = square.left + (np.arange(size) + 0.5) * step
    inside = np.outer((rows > top) & (rows < bottom), (columns > left) & (columns < right))
    image = resample_square(pixels, square, size)
    if not inside.any():
        return np.full_like(image, 0.5), square
    return np.where(inside, equalise(image, inside), 0.0).astype(np.float32), square
