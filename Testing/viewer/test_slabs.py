"""Slabs: each voxel the maximum, mean or minimum of those across its plane."""

import numpy as np
import pytest

pytest.importorskip("trame_slicer")

from xray2ctpa_core.viewer.slabs import slices_beside, thickened


def test_a_thickness_takes_whole_slices_on_both_sides():
    assert [slices_beside(mm, 5.0) for mm in (0, 5, 9, 10, 15, 24, 25)] == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("how", "expected"), [("maximum", [4, 4, 9, 9]), ("mean", [3, 7 / 3, 4, 5]), ("minimum", [2, 1, 1, 1])]
)
def test_a_slab_is_thinner_at_the_edge_of_the_volume(how, expected):
    values = np.array([4, 2, 1, 9], np.int16)
    found = thickened(values[:, None, None], 0, 1, how)[:, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_every_axis_is_thickened_by_itself_and_what_is_unknown_stays_unknown():
    array = np.zeros((4, 5, 6), np.float32)
    array[2, 2, 2] = 7
    array[0, 0, 0] = np.nan
    for axis in range(3):
        thick = thickened(array, axis, 1, "maximum")
        along = np.moveaxis(thick, axis, 0)
        np.testing.assert_array_equal(along[:4, 2, 2], [0, 7, 7, 7])
        np.testing.assert_array_equal(np.isnan(along[:3, 0, 0]), [True, True, False])
