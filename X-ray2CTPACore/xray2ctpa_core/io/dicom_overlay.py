"""The word SYNTHETIC over a DICOM image: an overlay plane (PS3.3 C.9.2), which leaves the voxels alone."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from xray2ctpa_core.constants import SYNTHETIC

#: Part of the image's width that the word takes, and the least height of its letters in pixels.
_WIDTH, _LEAST_LETTERS = 0.6, 8


def add_synthetic_overlay(dataset: Dataset, shape: tuple[int, int]) -> None:
    """Adds the first overlay plane, with the word in the upper left corner, to the image of ``dataset``.

    Args:
        dataset: of an image of ``shape`` (rows, columns).
        shape: of the image.
    """
    bits = word_mask(shape)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.add_new(0x60000010, "US", shape[0])
    dataset.add_new(0x60000011, "US", shape[1])
    dataset.add_new(0x60000022, "LO", SYNTHETIC)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60001500, "LO", SYNTHETIC)
    dataset.add_new(0x60003000, "OW", packed + b"\0" * (len(packed) % 2))


def word_mask(shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the letters of SYNTHETIC; what does not fit is cut off."""
    size = _LEAST_LETTERS
    while ImageFont.load_default(size + 1).getlength(SYNTHETIC) <= _WIDTH * shape[1]:
        size += 1
    image = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(image).text((2, 1), SYNTHETIC, fill=1, font=ImageFont.load_default(size))
    return np.asarray(image)
