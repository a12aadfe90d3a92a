"""What is filtered in its box alone is, voxel by voxel, what filtering the whole volume gives."""

import numpy as np
import pytest
from scipy import ndimage

from xray2ctpa_core.simulation.boxes import box_around

SHAPE, SIGMA = (40, 50, 60), (1.0, 1.5, 2.0)


@pytest.mark.parametrize("low", [(15, 20, 25), (0, 1, 55)])  # inside the volume, and at its edges
def test_a_mask_filtered_in_its_box_is_the_whole_of_it(low: tuple[int, int, int]) -> None:
    mask = np.zeros(SHAPE, np.float32)
    mask[tuple(slice(start, start + 5) for start in low)] = 1
    box = box_around(mask > 0, SIGMA)
    filtered = np.zeros_like(mask)
    filtered[box] = ndimage.gaussian_filter(mask[box], SIGMA)
    assert np.array_equal(filtered, ndimage.gaussian_filter(mask, SIGMA))
    assert filtered[box].size < mask.size / 2


def test_a_texture_filtered_in_a_masks_box_is_the_whole_volumes_in_the_mask() -> None:
    texture = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[18:22, 30:33, 2:9] = True
    box = box_around(mask, SIGMA)
    filtered = ndimage.gaussian_filter(texture[box], SIGMA)
    assert np.array_equal(filtered[mask[box]], ndimage.gaussian_filter(texture, SIGMA)[mask])


def test_an_empty_mask_has_an_empty_box() -> None:
    assert np.zeros(SHAPE)[box_around(np.zeros(SHAPE, bool), SIGMA)].size == 0
