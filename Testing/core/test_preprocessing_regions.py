"""Relief above the background, and connected regions, are those of scipy's filters on any image."""

import numpy as np
import pytest
from scipy import ndimage

from xray2ctpa_core.preprocessing.regions import regions_of, relief


def test_a_bright_square_smaller_than_the_window_rises_above_its_background() -> None:
    image = np.full((40, 60), 0.25, np.float32)
    image[10:14, 20:25] = 0.75  # 4 x 5 pixels
    image[:, 50:] = 1.0  # wider than the window in both directions: background
    image[0, 0] = 0.5  # a window in the corner counts what lies inside the image

    rise = relief(image, 7)

    assert np.array_equal(np.argwhere(rise == 0.5), np.argwhere(image == 0.75))
    assert rise[0, 0] == 0.25
    assert np.count_nonzero(rise) == 21
    assert not relief(image, 7, bright=False).any()
    assert np.array_equal(relief(-image, 7, bright=False), rise)


@pytest.mark.parametrize("shape", [(3, 300), (300, 5), (27, 27), (200, 150), (1, 1)])
@pytest.mark.parametrize("window", [3, 27])
def test_relief_is_that_of_scipys_opening(shape: tuple[int, int], window: int) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)

    for sign in (1, -1):
        opened = ndimage.grey_opening(sign * image, (window, window))
        assert np.array_equal(relief(image, window, sign == 1), sign * image - opened)


def test_regions_touch_at_corners_and_never_across_an_edge() -> None:
    mask = np.array(
        [
            [1, 0, 0, 0, 1, 1],
            [0, 1, 0, 0, 0, 0],
            [1, 0, 0, 1, 0, 1],
            [0, 0, 0, 1, 1, 1],
        ]
    )

    regions = regions_of(np.flatnonzero(mask), mask.shape[1])

    assert regions.corners.tolist() == [[0, 0, 3, 2], [0, 4, 1, 6], [2, 3, 4, 6]]
    assert regions.areas.tolist() == [3, 2, 5]
    assert regions.ink(2).astype(int).tolist() == [[1, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8, 1.0])
def test_regions_are_those_of_scipys_label(share: float) -> None:
    mask = np.random.default_rng(1).random((90, 70)) < share

    regions = regions_of(np.flatnonzero(mask), mask.shape[1])

    labels, number = ndimage.label(mask, np.ones((3, 3)))
    assert len(regions.areas) == number
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        assert regions.corners[index].tolist() == [rows.start, columns.start, rows.stop, columns.stop]
        assert np.array_equal(regions.ink(index), labels[rows, columns] == index + 1)
        assert regions.areas[index] == regions.ink(index).sum()
