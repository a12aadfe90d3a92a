"""From lung masks to their box and features."""

import numpy as np
import pytest

from xray2ctpa_core.preprocessing.lung_box import largest_component, lung_shape, mask_box


def two_lungs() -> np.ndarray:
    masks = np.zeros((2, 128, 128), bool)
    masks[0, 20:100, 20:55] = True
    masks[1, 25:95, 70:108] = True
    return masks


def test_the_box_holds_both_lungs():
    shape = lung_shape(two_lungs())
    assert shape.box == pytest.approx((20, 20, 100, 108), abs=0.5)
    assert shape.aspect == pytest.approx(88 / 80, abs=0.02)
    assert shape.areas == pytest.approx((80 * 35 / 128**2, 70 * 38 / 128**2))
    assert shape.contact == (0, 0, 0, 0)


def test_specks_and_holes_do_not_count():
    masks = two_lungs()
    masks[0, 2:5, 2:5] = True
    masks[1, 50:60, 80:90] = False
    assert lung_shape(masks) == lung_shape(two_lungs())


def test_a_thin_spur_does_not_move_the_box():
    masks = two_lungs()
    masks[0, 100:106, 30] = True
    assert lung_shape(masks).box[2] == pytest.approx(100, abs=0.7)


def test_a_missing_lung_has_no_height_and_the_other_makes_the_box():
    masks = two_lungs()
    masks[1] = False
    shape = lung_shape(masks)
    assert shape.heights == (pytest.approx(1.0), 0.0)
    assert shape.box == pytest.approx((20, 20, 100, 55), abs=0.5)


def test_no_lungs_give_no_box():
    assert lung_shape(np.zeros((2, 64, 64), bool)).box is None


def test_contact_is_the_share_of_the_box_that_runs_into_the_radiographs_edge():
    contact = lung_shape(two_lungs(), (0, 0, 90, 128)).contact
    assert contact == pytest.approx((0, 0, 73 / 88, 0), abs=0.01)


def test_the_largest_component_of_an_empty_mask_is_empty():
    assert not largest_component(np.zeros((4, 4), bool)).any()
    assert mask_box(np.zeros((4, 4), bool)) is None


def test_the_tilt_is_that_of_both_lungs():
    rows, columns = np.indices((100, 100)).astype(float)
    masks = []
    for middle in (30.0, 70.0):
        # 60 high and 10 wide, turned by 20 degrees counter-clockwise: its foot moves to the right.
        x, y = columns - middle, rows - 50.0
        turn = np.radians(20)
        across, along = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
        masks.append((np.abs(across) < 5) & (np.abs(along) < 30))
    shape = lung_shape(np.array(masks))

    assert shape.tilt_degrees == pytest.approx(20, abs=0.5)


def test_the_room_is_the_sum_of_the_distances_from_the_edges_over_the_longer_side():
    """The box lies in rows 20 to 99 and columns 20 to 107: 88 wide."""
    assert lung_shape(two_lungs(), (10, 10, 110, 118)).room == pytest.approx(40 / 88, abs=0.02)
    assert lung_shape(two_lungs(), (10, -np.inf, 110, 118)).room == pytest.approx(0.3 + 30 / 88, abs=0.02)


def test_a_missing_lung_leaves_no_mediastinum():
    masks = two_lungs()
    assert lung_shape(masks).mediastinum is not None
    masks[0] = False
    assert lung_shape(masks).mediastinum is None
