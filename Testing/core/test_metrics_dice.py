import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.dice import dice


def test_half_overlapping_masks_of_equal_size_have_dice_one_half():
    assert dice(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0])) == 0.5


def test_equal_masks_have_1_and_disjoint_ones_0():
    assert dice(np.array([True, False]), np.array([True, False])) == 1
    assert dice(np.array([True, False]), np.array([False, True])) == 0


def test_a_missed_organ_counts_0_but_an_absent_one_is_not_judged():
    assert dice(np.zeros(3), np.ones(3)) == 0
    assert np.isnan(dice(np.ones(3), np.zeros(3)))


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        dice(np.zeros(3), np.zeros(4))
