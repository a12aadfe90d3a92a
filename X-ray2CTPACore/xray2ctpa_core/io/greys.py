"""Greys of a radiograph: colour to luminance, any scale to [0, 1], pixels to squares."""

import numpy as np
from PIL import Image

from xray2ctpa_core.errors import InputError

#: The lowest and highest shares of the greys are saturated: dead pixels, burned-in letters, direct exposure.
SCALE_SHARES = (0.005, 0.995)
#: Number of values from which a quantile is bounded, and the factor by which the bound lies further from the
#: middle.
_SAMPLED, _BEYOND = 4096, 3.0
#: A radiograph with fewer greys than this has lost most of its greys.
FEW_GREYS = 32
#: A window hides the image if it leaves more than the first share of the pixels black or white, while less
#: than the second share of the stored values lies at their own ends.
CLIPPED_SHARE, STORED_SHARE = 0.9, 0.5
#: ITU-R BT.601 weights of red, green and blue.
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
#: A pixel has colour if its channels differ by more than this share of the range (JPEG noise: less).
COLOUR_DIFFERENCE = 0.1
#: An image with more than this share of coloured pixels counts as coloured (captions and cross-hairs: less).
COLOUR_SHARE = 0.05
#: Pixels count as square up to this relative difference of their sides.
SQUARE_TOLERANCE = 0.005


def luminance(rgb: np.ndarray, full_scale: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Grey of a colour image, and a sentence if it has real colour.

    Args:
        rgb: (H, W, 3) red, green, blue.
        full_scale: value of the brightest channel (255 or 65535).

    Returns:
        (H, W) float32 in the units of ``rgb``, and notes (none for a grey image stored in three channels).
    """
    # 16-bit channels must not wrap around when subtracted.
    difference = rgb.max(axis=2).astype(np.float32) - rgb.min(axis=2)
    share = float((difference > COLOUR_DIFFERENCE * full_scale).mean())
    notes: tuple[str, ...] = ()
    if share > COLOUR_SHARE:
        notes = (f"{share:.0%} of the pixels have colour, a radiograph is grey; their luminance was taken.",)
    if not difference.any():
        return rgb[..., 0].astype(np.float32), notes
    return rgb.astype(np.float32) @ np.asarray(LUMA_WEIGHTS, np.float32), notes


def scale_to_unit(values: np.ndarray, padding: np.ndarray | None, name: str) -> np.ndarray:
    """Greys between the radiograph's own SCALE_SHARES, as (H, W) float32 in [0, 1]; padding becomes 0.

    Args:
        values: (H, W), any real dtype.
        padding: (H, W) bool, True at pixels that were not exposed, or None.
        name: for messages.

    Raises:
        InputError: NaN or infinite values, or a single grey.
    """
    values = values.astype(np.result_type(values.dtype, np.float32), copy=False)
    unusable = int(values.size - np.count_nonzero(np.isfinite(values)))
    if unusable:
        raise InputError(
            f"Expected finite pixels, got {unusable} NaN or infinite of {values.size} in {name}.",
            "Export the image again, with the missing pixels filled.",
        )
    exposed = values if padding is None else values[~padding]
    low, high = outer_quantiles(exposed, SCALE_SHARES) if exposed.size else (0.0, 0.0)
    if not high > low:
        raise InputError(
            f"Expected a radiograph, got {name}, a blank image: 99 % of it has the grey {float(low):g}.",
            "Check that the export of the image was complete.",
        )
    pixels = np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)
    if padding is not None:
        pixels[padding] = 0.0
    return pixels


def has_contrast(values: np.ndarray) -> bool:
    """Whether ``scale_to_unit`` would find more than one grey in finite ``values``."""
    low, high = outer_quantiles(values, SCALE_SHARES)
    return bool(high > low)


def hides_image(seen: np.ndarray, stored: np.ndarray) -> bool:
    """Whether a window or table has made ``seen``, nearly all black and white, from ``stored``, of the same
    shape."""
    return _at_the_ends(seen) > CLIPPED_SHARE and _at_the_ends(stored) < STORED_SHARE


def _at_the_ends(values: np.ndarray) -> float:
    """Share of ``values`` that are the least or the greatest one."""
    ends = (values == values.min()) | (values == values.max())
    return float(ends.mean())


def few_greys(pixels: np.ndarray) -> tuple[str, ...]:
    """A sentence if (H, W) ``pixels`` have fewer than FEW_GREYS greys."""
    rows = pixels[:: max(1, len(pixels) // 16)]
    if len(np.unique(rows)) >= FEW_GREYS or (count := len(np.unique(pixels))) >= FEW_GREYS:
        return ()
    return (f"The image has only {count} greys; most of the radiograph's were lost before.",)


def outer_quantiles(values: np.ndarray, shares: tuple[float, float]) -> tuple[np.float64, np.float64]:
    """``np.quantile(values, shares)`` for many finite values, identical to the last bit, but much faster if
    the shares are near 0 and 1: only values beyond bounds from a sample of the values are sorted."""
    flat = values.ravel()
    sample = flat[:: (flat.size // _SAMPLED) | 1]  # odd, so that it is no multiple of an image's rows
    below = flat[flat <= np.quantile(sample, min(1.0, _BEYOND * shares[0]))]
    above = flat[flat >= np.quantile(sample, max(0.0, 1 - _BEYOND * (1 - shares[1])))]
    low = _at_rank(below, shares[0] * (flat.size - 1), 0)
    high = _at_rank(above, shares[1] * (flat.size - 1), flat.size - above.size)
    if low is None or high is None:
        low, high = np.quantile(flat, shares)
    return np.float64(low), np.float64(high)


def _at_rank(values: np.ndarray, rank: float, less: int) -> np.float64 | None:
    """The value at a rank, counted from 0, among ``values`` and ``less`` smaller ones, with numpy's
    interpolation if the rank is no whole number; None if it lies outside ``values``."""
    first = int(np.floor(rank)) - less
    second = min(first + 1, values.size - 1)
    share = np.float64(rank - np.floor(rank))
    if not 0 <= first < values.size or (share and second == first):
        return None
    ordered = np.partition(values, (first, second))
    lower, upper = ordered[first], ordered[second]
    step = upper - lower
    return np.float64(upper - step * (1 - share) if share >= 0.5 else lower + step * share)


def with_square_pixels(pixels: np.ndarray, aspect: float) -> np.ndarray:
    """Resamples (linearly) the coarser axis of (H, W) float32 ``pixels`` so that pixels become square.

    Args:
        pixels: (H, W) float32.
        aspect: height of a pixel over its width.
    """
    if abs(aspect - 1.0) <= SQUARE_TOLERANCE:
        return pixels
    rows, columns = pixels.shape
    if aspect > 1.0:
        rows = round(rows * aspect)
    else:
        columns = round(columns / aspect)
    return np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR))
