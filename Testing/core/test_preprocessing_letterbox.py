"""The whole radiograph in the locator's square."""

import numpy as np

from xray2ctpa_core.preprocessing.letterbox import LOCATOR_PIXELS, letterbox


def test_a_landscape_radiograph_is_centred_with_zeros_above_and_below():
    radiograph = np.random.default_rng(0).random((100, 200)).astype(np.float32)
    image, square = letterbox(radiograph)
    assert image.shape == (LOCATOR_PIXELS, LOCATOR_PIXELS)
    assert (square.top, square.left, square.side) == (-50, 0, 200)
    assert (image[:32] == 0).all()
    assert (image[96:] == 0).all()
    assert (image[32:96] > 0).mean() > 0.99


def test_a_border_does_not_make_the_anatomy_smaller():
    radiograph = np.zeros((200, 200), np.float32)
    radiograph[50:150, 60:160] = np.random.default_rng(0).random((100, 100))
    _, square = letterbox(radiograph)
    assert (square.top, square.left, square.side) == (50, 60, 100)
