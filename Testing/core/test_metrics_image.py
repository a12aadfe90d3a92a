import numpy as np
import pytest
import torch

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.image import mae, psnr, slice_ssim, ssim, to_unit, x2ct_psnr

WINDOW = (-1000.0, 1000.0)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 300, (16, 20, 24))
    return reference + rng.normal(0, 100, reference.shape), reference


def test_psnr_of_an_error_of_a_tenth_of_the_window_is_20_db():
    assert psnr(np.full((2, 2, 2), 200.0), np.zeros((2, 2, 2)), WINDOW) == pytest.approx(20.0, abs=1e-4)


def test_psnr_of_equal_volumes_is_infinite():
    assert psnr(np.ones((2, 2, 2)), np.ones((2, 2, 2)), WINDOW) == float("inf")


def test_x2cts_psnr_is_4_29_db_above_that_of_its_range_where_every_slice_is_alike():
    reference = np.zeros((4, 5, 6))
    image = np.full((4, 5, 6), 250.0)  # a tenth of its range: 20 dB
    assert x2ct_psnr(image, reference) == pytest.approx(20 + 4.287, abs=1e-3)
    assert x2ct_psnr(reference, reference) == float("inf")
    assert x2ct_psnr(np.full((4, 5, 6), 9000.0), np.full((4, 5, 6), 1500.0)) == float("inf")
    image = reference.copy()
    image[0] = 250.0  # one slice of four along the first axis; a quarter of each slice along the others
    expected = (24.287 + 2 * (24.287 + 10 * np.log10(4))) / 3
    assert x2ct_psnr(image, reference) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(InputError, match="one shape"):
        x2ct_psnr(reference[0], reference[0])


def test_what_lies_outside_the_window_does_not_count():
    image, reference = np.full((2, 2, 2), 3000.0), np.full((2, 2, 2), 1000.0)
    assert mae(image, reference, WINDOW) == 0
    assert psnr(image, reference, WINDOW) == float("inf")


def test_mae_is_in_hu():
    assert mae(np.array([[[10.0, -30.0]]]), np.zeros((1, 1, 2)), WINDOW) == pytest.approx(20.0, abs=1e-3)


def test_a_narrower_window_gives_a_lower_psnr_for_the_same_error(pair):
    assert psnr(*pair, (-500.0, 500.0)) < psnr(*pair, (-2000.0, 2000.0))


def test_psnr_is_that_of_monai(pair):
    from monai.metrics import PSNRMetric

    a, b = (torch.from_numpy(to_unit(x, WINDOW))[None, None] for x in pair)
    assert psnr(*pair, WINDOW) == pytest.approx(float(PSNRMetric(max_val=1.0)(a, b)), abs=1e-3)


def test_3d_ssim_is_that_of_monai(pair):
    from monai.metrics import SSIMMetric

    a, b = (torch.from_numpy(to_unit(x, WINDOW))[None, None] for x in pair)
    assert ssim(*pair, WINDOW) == pytest.approx(float(SSIMMetric(3)(a, b)), abs=1e-4)


def test_mean_slice_ssim_is_that_of_monai_on_slices(pair):
    from monai.metrics import SSIMMetric

    a, b = (torch.from_numpy(to_unit(x, WINDOW))[:, None] for x in pair)
    assert slice_ssim(*pair, WINDOW) == pytest.approx(float(SSIMMetric(2)(a, b).mean()), abs=1e-4)


def test_ssim_of_equal_volumes_is_1_and_of_a_negative_below_0(pair):
    _, reference = pair
    assert ssim(reference, reference, WINDOW) == pytest.approx(1.0)
    assert ssim(-reference, reference, WINDOW) < 0


def test_volumes_of_different_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        psnr(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), WINDOW)


def test_ssim_refuses_volumes_thinner_than_its_window():
    with pytest.raises(InputError, match="at least 11"):
        ssim(np.zeros((8, 16, 16)), np.zeros((8, 16, 16)), WINDOW)


def test_a_window_upside_down_is_refused():
    with pytest.raises(InputError, match="lower < upper"):
        mae(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), (900.0, -100.0))


@pytest.mark.parametrize("metric", [mae, psnr, ssim, slice_ssim])
@pytest.mark.parametrize(
    "wrong", [np.full((12, 12, 12), np.nan), np.full((12, 12, 12), np.inf), np.zeros((0, 12, 12))]
)
def test_nan_infinity_and_nothing_are_refused(metric, wrong):
    for pair in ((wrong, np.zeros(wrong.shape)), (np.zeros(wrong.shape), wrong)):
        with pytest.raises(InputError, match="finite voxels"):
            metric(*pair, WINDOW)


@pytest.mark.parametrize("window", [(0.0, np.inf), (np.nan, 1.0), (0.0, 0.0)])
def test_a_window_without_a_width_is_refused(window):
    with pytest.raises(InputError, match="finite lower < upper"):
        psnr(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), window)
