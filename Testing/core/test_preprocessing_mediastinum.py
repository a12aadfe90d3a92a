"""Where the mediastinum lies between two masks, in numbers that a person can count."""

import numpy as np
import pytest

from xray2ctpa_core.preprocessing.mediastinum import between_lungs

BOX = (20.0, 20.0, 100.0, 120.0)


def lungs(right_end: int = 55, left_start: int = 85) -> list[np.ndarray]:
    """Rows 20 to 99; columns 20 to ``right_end`` - 1 and ``left_start`` to 119; the box's middle is at 70."""
    masks = [np.zeros((128, 128), bool) for _ in range(2)]
    masks[0][20:100, 20:right_end] = True
    masks[1][20:100, left_start:120] = True
    return masks


def test_a_mediastinum_in_the_middle_is_as_wide_as_the_gap() -> None:
    between = between_lungs(lungs(), BOX)

    assert between is not None
    assert between.off_middle == pytest.approx(0.005)  # columns 54 and 85: 69.5
    assert between.least_width == pytest.approx(0.31)


def test_one_beside_the_middle_is_off_it_to_either_side_alike() -> None:
    to_the_left, to_the_right = (between_lungs(lungs(*ends), BOX) for ends in ((75, 105), (36, 66)))

    assert to_the_left is not None
    assert to_the_right is not None
    assert to_the_left.off_middle == pytest.approx(0.195)
    assert to_the_right.off_middle == pytest.approx(0.195)


def test_a_lung_that_comes_near_the_other_in_one_row_narrows_it() -> None:
    masks = lungs()
    masks[0][60, 55:80] = True

    between = between_lungs(masks, BOX)

    assert between is not None
    assert between.least_width == pytest.approx(0.06)
    assert between.off_middle == pytest.approx(0.005)


def test_lungs_without_a_common_row_have_none() -> None:
    masks = lungs()
    masks[0][40:] = False

    assert between_lungs(masks, BOX) is None
