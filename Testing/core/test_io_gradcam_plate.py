import numpy as np
import pytest
from table_arms import AFFINE, GRID, chest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.gradcam_plate import COLUMNS, plate_slices, render_gradcam_plate
from xray2ctpa_core.io.preview import ACCENT, CELL, GAP, HEADER, MARGIN
from xray2ctpa_core.volume import Volume


def heat(slice_index: int) -> Volume:
    array = np.zeros(GRID, dtype=np.float32)
    array[slice_index, 10:14, 10:14] = 1
    return Volume(array, AFFINE)


def test_slices_are_spread_evenly_and_the_strongest_is_among_them():
    assert plate_slices(np.zeros((12, 4, 4)), 3) == [
        8,
        6,
        3,
    ]  # without evidence the middle counts as strongest
    assert plate_slices(heat(11).array, 3) == [11, 6, 3]
    assert plate_slices(heat(5).array, 50)[0] > plate_slices(heat(5).array, 50)[-1]
    assert len(plate_slices(heat(5).array, 50)) <= 12


def test_every_slice_carries_the_word_synthetic_and_one_is_coloured():
    picture = np.asarray(render_gradcam_plate(Volume(chest(0), AFFINE), heat(5), "arm, patient 1"))
    coloured = 0
    for number in range(8):
        left = MARGIN + number % COLUMNS * (CELL + GAP)
        top = HEADER + number // COLUMNS * (CELL + GAP)
        tile = picture[top : top + CELL, left : left + CELL].astype(int)
        corner = tile[-28:, :130]
        assert (np.abs(corner - ACCENT).max(axis=2) < 40).sum() > 100, "SYNTHETIC is missing"
        middle = tile[40:-40, 40:-40]
        coloured += bool((middle[..., 0] - middle[..., 2] > 60).any())
    assert coloured == 1


def test_a_map_of_another_grid_is_refused():
    other = Volume(np.zeros((3, 4, 5)), AFFINE)
    with pytest.raises(InputError, match=r"map of shape \(12, 32, 32\)"):
        render_gradcam_plate(Volume(chest(0), AFFINE), other, "arm")
