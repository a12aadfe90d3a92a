import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.projection import (
    blood_pool_mask,
    frontal_mask,
    frontal_projection,
    lung_mask,
    normalised_cross_correlation,
)


@pytest.fixture
def thorax() -> np.ndarray:
    """Air, a soft-tissue box, two lungs (the left one shorter), a contrast-filled heart, a spine."""
    hu = np.full((24, 40, 48), -1000.0, dtype=np.float32)
    hu[:, 3:37] = 40
    hu[4:22, 6:34, 4:20] = -850  # patient's right: low i
    hu[8:22, 6:34, 28:44] = -850
    hu[6:14, 10:20, 22:34] = 320
    hu[:, 26:36, 21:27] = 400
    return hu


def test_the_projection_has_superior_rows_first_and_the_patients_right_first():
    hu = np.full((3, 4, 5), -1000.0)
    hu[2, 1, 0] = 1000.0  # superior, right
    image = frontal_projection(hu)
    assert image.shape == (3, 5)
    assert image[0, 0] == 500  # 2000 over 4 voxels
    assert image.sum() == 500


def test_the_lungs_are_the_enclosed_air_and_not_the_air_around(thorax):
    mask = lung_mask(thorax)
    truth = thorax == -850
    np.testing.assert_array_equal(mask, truth)


def test_a_lung_cut_by_the_slices_edge_is_still_a_lung(thorax):
    cut = thorax[:, :30]
    assert lung_mask(cut)[:, -1].any()
    np.testing.assert_array_equal(lung_mask(cut), cut == -850)


def test_a_small_gas_bubble_is_no_lung(thorax):
    thorax[1:3, 20:22, 30:32] = -900
    assert not lung_mask(thorax)[1:3].any()


def test_the_frontal_lung_mask_shows_the_shorter_lung_at_the_patients_left(thorax):
    mask = frontal_mask(lung_mask(thorax))
    assert mask[:, 5].sum() == 18
    assert mask[:, 40].sum() == 14
    assert not mask[0].any()
    assert not mask[:, 24].any()


def test_the_blood_pool_is_the_contrast_before_the_spine(thorax):
    mask = blood_pool_mask(thorax)
    assert mask[10, 15, 28]
    assert not mask[:, 27:, :].any()
    assert mask.sum() >= 0.7 * 8 * 10 * 12


def test_without_contrast_or_lungs_there_is_no_blood_pool(thorax):
    assert not blood_pool_mask(np.minimum(thorax, 100)).any()
    assert not blood_pool_mask(np.full((8, 12, 12), 200.0)).any()


def test_a_thin_vessel_is_no_blood_pool(thorax):
    thorax[thorax == 320] = 40
    thorax[6:20, 12, 30] = 320
    assert not blood_pool_mask(thorax).any()


def test_correlation_ignores_gain_and_offset_and_turns_with_the_sign():
    image = np.random.default_rng(0).random((4, 5))
    assert normalised_cross_correlation(3 * image + 7, image) == pytest.approx(1)
    assert normalised_cross_correlation(-image, image) == pytest.approx(-1)


def test_correlation_by_hand():
    # deviations (-1, 0, 1) and (-1, 1, 0): 1 / 2
    assert normalised_cross_correlation(np.array([[1, 2, 3]]), np.array([[1, 3, 2]])) == pytest.approx(0.5)


def test_correlation_with_a_flat_image_is_nan():
    assert np.isnan(normalised_cross_correlation(np.ones((2, 2)), np.eye(2)))


def test_a_flat_array_is_no_volume():
    with pytest.raises(InputError, match="D, H, W"):
        frontal_projection(np.zeros((3, 3)))


@pytest.mark.parametrize("wrong", [np.full((2, 2), np.nan), np.zeros((0, 2))])
def test_nan_or_no_pixels_have_no_correlation(wrong):
    with pytest.raises(InputError, match="finite pixels"):
        normalised_cross_correlation(wrong, np.zeros(wrong.shape))
