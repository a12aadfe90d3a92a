"""A whole radiograph as input of the papers' encoders: 224 x 224 pixels, normalised."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.preprocessing.frame import resample_square
from xray2ctpa_core.volume import FrontalFrame


@dataclass(frozen=True)
class CxrSettings:
    """How a radiograph is converted to the input of an encoder.

    Attributes:
        pixels: along each side.
        mean, std: greys in [0, 1] become (grey - mean) / std. The papers use (0.633, 0.181) for every
            encoder; BiomedCLIP's own values differ.
        keep_aspect: the image is centred in a black square; False squashes it, as the released scripts do.
    """

    pixels: int = 224
    mean: float = 0.633
    std: float = 0.181
    keep_aspect: bool = True

    def __post_init__(self) -> None:
        if self.pixels < 1 or not (math.isfinite(self.mean) and self.std > 0):
            raise ConfigError(
                f"Expected pixels >= 1, finite mean and std > 0, got {self.pixels}, {self.mean}, {self.std}."
            )


def radiograph_image(pixels: np.ndarray, settings: CxrSettings) -> np.ndarray:
    """The whole radiograph, normalised.

    Args:
        pixels: (H, W) in [0, 1], bright = attenuating.
        settings: size and normalisation.

    Returns:
        (P, P) float32; all input channels of an encoder get the same image.

    Raises:
        InputError: not two axes, or NaN or infinite pixels.
    """
    if pixels.ndim != 2 or not np.isfinite(pixels).all():
        raise InputError(f"Expected finite pixels (H, W), got shape {pixels.shape}.")
    square = (
        _in_square(pixels, settings.pixels) if settings.keep_aspect else _squashed(pixels, settings.pixels)
    )
    return ((square - settings.mean) / settings.std).astype(np.float32)


def _in_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """(size, size): aspect kept, centred, black beside the radiograph."""
    height, width = pixels.shape
    side = float(max(height, width))
    frame = FrontalFrame((height - side) / 2, (width - side) / 2, side)
    step = side / size
    rows = frame.top + (np.arange(size) + 0.5) * step
    columns = frame.left + (np.arange(size) + 0.5) * step
    inside = np.outer((rows > 0) & (rows < height), (columns > 0) & (columns < width))
    return np.where(inside, resample_square(pixels, frame, size), 0.0)


def _squashed(pixels: np.ndarray, size: int) -> np.ndarray:
    """(size, size): each side resized independently."""
    image = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
