import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.localisation import heat_share


@pytest.fixture
def masks() -> tuple[np.ndarray, np.ndarray]:
    """A region of 8 voxels with a target of 2, in a volume of 16."""
    region, target = np.zeros((2, 2, 4), bool), np.zeros((2, 2, 4), bool)
    region[0], target[0, 0, :2] = True, True
    return target, region


def test_a_uniform_map_hits_by_chance(masks):
    share = heat_share(np.ones((2, 2, 4)), *masks)
    assert (share.in_target, share.chance, share.in_region) == (0.25, 0.25, 0.5)


def test_a_map_on_the_target_hits_wholly(masks):
    share = heat_share(masks[0].astype(float), *masks)
    assert (share.in_target, share.in_region) == (1, 1)


def test_heat_outside_the_region_does_not_count_as_a_miss(masks):
    heat = masks[0].astype(float)
    heat[1] = 5
    share = heat_share(heat, *masks)
    assert share.in_target == 1
    assert share.in_region == pytest.approx(2 / 42)


def test_a_cold_map_has_no_share(masks):
    share = heat_share(np.zeros((2, 2, 4)), *masks)
    assert np.isnan(share.in_target)
    assert np.isnan(share.in_region)


def test_no_region_or_negative_heat_is_refused(masks):
    with pytest.raises(InputError, match="not empty"):
        heat_share(np.ones((2, 2, 4)), masks[0], np.zeros((2, 2, 4), bool))
    with pytest.raises(InputError, match="at least 0"):
        heat_share(-np.ones((2, 2, 4)), *masks)
    with pytest.raises(InputError, match="finite heat"):
        heat_share(np.full((2, 2, 4), np.nan), *masks)
    with pytest.raises(InputError, match="one shape"):
        heat_share(np.ones((2, 2, 2)), *masks)
