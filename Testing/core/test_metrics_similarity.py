"""Masks laid over one another, on balls whose place and size are known."""

import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.dice import dice
from xray2ctpa_core.metrics.similarity import moved, similarity_of

SPACING = (2.0, 2.0, 4.0)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """(40, 60, 60) bool: centre (z, y, x) and radius in mm."""
    axes = np.meshgrid(
        *(np.arange(n) * s for n, s in zip((40, 60, 60), (4, 2, 2), strict=True)), indexing="ij"
    )
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2


def test_scale_and_shift_of_a_larger_ball_elsewhere_are_found() -> None:
    found = similarity_of(ball((60, 50, 50), 20), ball((80, 60, 40), 30), SPACING)
    assert found.scale == pytest.approx(1.5, rel=0.02)
    assert found.centre_from == pytest.approx((60, 50, 50), abs=0.1)
    assert found.centre_to == pytest.approx((80, 60, 40), abs=0.1)


def test_the_moved_ball_lies_on_the_other_with_what_lay_beside_it() -> None:
    source, target = ball((60, 50, 50), 20), ball((80, 60, 40), 30)
    laid = similarity_of(source, target, SPACING)
    assert dice(source, target) < 0.5
    assert dice(moved(source, laid, SPACING), target) > 0.95
    beside = moved(ball((60, 50, 80), 8), laid, SPACING)  # 30 mm to the left become 45 mm
    places = np.argwhere(beside).mean(axis=0) * (4, 2, 2)
    assert places == pytest.approx((80, 60, 85), abs=1)


def test_another_shape_stays_another() -> None:
    box = np.zeros((40, 60, 60), bool)
    box[5:35, 25:35, 25:35] = True  # 120 mm high, 20 mm wide
    laid = similarity_of(box, ball((80, 60, 60), 30), SPACING)
    assert dice(moved(box, laid, SPACING), ball((80, 60, 60), 30)) < 0.7


def test_nothing_cannot_be_laid_over_anything() -> None:
    with pytest.raises(InputError, match="two masks of two voxels or more, got 0"):
        similarity_of(np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool), SPACING)
