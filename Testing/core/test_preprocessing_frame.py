"""The lungs' square: geometry, resampling, grey ranks."""

import numpy as np
import pytest

from xray2ctpa_core.constants import FRAME_MARGIN, FRAME_PIXELS
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.preprocessing.frame import equalise, frame_from_lung_box, frame_image, resample_square
from xray2ctpa_core.volume import FrontalFrame


def ramp(height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width)).copy()


def test_the_frame_is_the_boxs_longer_side_widened_and_centred():
    frame = frame_from_lung_box(100, 50, 300, 350)
    assert frame.side == pytest.approx(FRAME_MARGIN * 300)
    assert (frame.top + frame.side / 2, frame.left + frame.side / 2) == pytest.approx((200, 200))


@pytest.mark.parametrize("box", [(10, 10, 10, 20), (10, 30, 20, 20), (0, 0, np.nan, 5)])
def test_an_empty_box_is_an_input_error(box):
    with pytest.raises(InputError, match="top < bottom"):
        frame_from_lung_box(*box)


def test_a_frame_at_the_radiographs_own_size_changes_no_pixel():
    radiograph = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    np.testing.assert_array_equal(resample_square(radiograph, FrontalFrame(0, 0, 32), 32), radiograph)


def test_halving_averages_what_a_checkerboard_would_alias():
    checkers = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(
        resample_square(checkers, FrontalFrame(0, 0, 64), 32)[2:-2, 2:-2], 0.5, atol=1e-6
    )


def test_outside_the_radiograph_the_edge_is_repeated():
    square = resample_square(ramp(16, 16), FrontalFrame(-8, -8, 32), 32)
    assert (square[:, :8] == 0).all()
    assert (square[:, 25:] == 1).all()


def test_aspect_is_kept():
    radiograph = np.zeros((200, 300), np.float32)
    radiograph[80:120, 130:170] = 1.0
    bright = np.argwhere(resample_square(radiograph, FrontalFrame(0, 50, 200), 100) > 0.5)
    assert tuple(bright.max(0) - bright.min(0)) == (19, 19)


def test_a_frame_image_has_the_networks_size_and_range():
    image = frame_image(ramp(300, 200), FrontalFrame(40, 10, 150))
    assert image.shape == (FRAME_PIXELS, FRAME_PIXELS)
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1


def test_an_exposure_curve_does_not_change_the_frame():
    radiograph = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    frame = FrontalFrame(0, 0, 64)
    plain, curved = (
        frame_image(radiograph, frame, 64),
        frame_image(np.sqrt(0.2 + 0.7 * radiograph), frame, 64),
    )
    assert np.abs(plain - curved).max() < 0.02


def test_ranks_of_a_ramp_are_the_ramp():
    image = ramp(4, 200)
    assert np.abs(equalise(image, np.ones(image.shape, bool)) - image).max() < 0.06


def test_equal_greys_stay_equal_and_order_is_kept():
    image = np.array([[0.1, 0.1, 0.5], [0.5, 0.9, 0.3]], np.float32)
    result = equalise(image, np.ones(image.shape, bool))
    assert result[0, 0] == result[0, 1]
    assert result[0, 2] == result[1, 0]
    assert result[0, 0] < result[1, 2] < result[0, 2] < result[1, 1]


def test_a_burned_in_letter_and_a_black_margin_hardly_move_the_anatomys_greys():
    radiograph = np.random.default_rng(2).uniform(0.3, 0.6, (128, 128)).astype(np.float32)
    marked = radiograph.copy()
    marked[:30] = 0.0
    marked[40:60, 5:20] = 1.0
    frame = FrontalFrame(0, 0, 128)
    plain, spoiled = frame_image(radiograph, frame, 128), frame_image(marked, frame, 128)
    assert np.abs(plain - spoiled)[70:].max() < 0.08


def test_a_flat_radiograph_becomes_mid_grey():
    assert (frame_image(np.full((50, 50), 0.7, np.float32), FrontalFrame(0, 0, 50), 8) == 0.5).all()


def test_the_input_is_not_written_to():
    radiograph = ramp(40, 40)
    before = radiograph.copy()
    frame_image(radiograph, FrontalFrame(-5, 3, 30), 16)
    np.testing.assert_array_equal(radiograph, before)
