"""Uniform borders are stripped, content is not."""

import numpy as np

from xray2ctpa_core.preprocessing.content import anatomy_edges, content_box


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 0.8, (height, width)).astype(np.float32)


def test_a_radiograph_without_borders_is_kept_whole():
    assert content_box(textured(90, 120)) == (0, 0, 90, 120)


def test_black_and_white_borders_are_stripped():
    radiograph = np.zeros((100, 120), np.float32)
    radiograph[:, 110:] = 1.0
    radiograph[10:80, 20:110] = textured(70, 90)
    assert content_box(radiograph) == (10, 20, 80, 110)


def test_letters_in_a_border_do_not_keep_it():
    radiograph = np.zeros((100, 100), np.float32)
    radiograph[20:] = textured(80, 100)
    radiograph[4:12, 5:13] = 1.0
    assert content_box(radiograph) == (20, 0, 100, 100)


def test_a_large_radiograph_is_searched_at_a_stride_and_found_within_it():
    radiograph = np.zeros((2000, 1500), np.float32)
    radiograph[200:1800, 300:] = textured(1600, 1200)
    box = content_box(radiograph)
    assert np.abs(np.subtract(box, (200, 300, 1800, 1500))).max() <= 4


def test_a_blank_radiograph_is_kept_whole():
    assert content_box(np.full((50, 40), 0.3, np.float32)) == (0, 0, 50, 40)


def test_a_strip_of_content_is_too_little_to_crop_to():
    radiograph = np.zeros((100, 100), np.float32)
    radiograph[50:60] = textured(10, 100)
    top, _, bottom, _ = content_box(radiograph)
    assert (top, bottom) == (0, 100)


def test_anatomy_ends_at_a_dark_border_but_may_go_on_under_a_bright_one():
    radiograph = textured(100, 100)
    radiograph[:10] = 0.0
    radiograph[85:] = 1.0
    assert anatomy_edges(radiograph, content_box(radiograph)) == (10, 0, np.inf, 100)
