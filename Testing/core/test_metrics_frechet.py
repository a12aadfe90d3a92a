import numpy as np
import pytest
import torch
from scipy import linalg

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.frechet import frechet_distance, frechet_interval


def draw(count: int, features: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, features)) @ rng.normal(size=(features, features)) + rng.normal(
        size=features
    )


def test_two_points_each_give_the_closed_form_in_one_dimension():
    # means 1 and 5, standard deviations sqrt(2) and 3 sqrt(2): (1 - 5)^2 + (3 sqrt 2 - sqrt 2)^2 = 16 + 8
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[2.0], [8.0]])) == pytest.approx(24)


def test_independent_gaussians_give_the_closed_form():
    # N(0, diag(1, 4)) and N((1, 2), diag(9, 1)): 1 + 4 + (3 - 1)^2 + (1 - 2)^2 = 10
    rng = np.random.default_rng(0)
    first = rng.normal(size=(200_000, 2)) * [1, 2]
    second = rng.normal(size=(200_000, 2)) * [3, 1] + [1, 2]
    assert frechet_distance(first, second) == pytest.approx(10, rel=0.01)


def test_it_is_the_formula_with_scipys_matrix_root():
    first, second = draw(60, 8, 1), draw(50, 8, 2)
    s1, s2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    gap = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    expected = gap + np.trace(s1 + s2 - 2 * linalg.sqrtm(s1 @ s2).real)
    assert frechet_distance(first, second) == pytest.approx(expected)


@pytest.mark.slow  # imports the whole of monai
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_that_of_monai():
    from monai.metrics.fid import get_fid_score

    first, second = draw(60, 8, 1), draw(50, 8, 2)
    expected = float(get_fid_score(torch.from_numpy(first), torch.from_numpy(second)))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_fewer_rows_than_features_are_no_obstacle():
    # Both covariances lie in planes; a rotation of all features changes nothing.
    first, second = draw(3, 20, 1), draw(4, 20, 2)
    turn = np.linalg.qr(draw(20, 20, 3))[0]
    distance = frechet_distance(first, second)
    assert distance > 0
    assert frechet_distance(first @ turn, second @ turn) == pytest.approx(distance)


def test_equal_sets_are_at_0_and_the_distance_is_symmetric():
    first, second = draw(30, 5, 1), draw(40, 5, 2)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))


def test_the_jackknife_is_as_wide_as_draws_vary():
    names = [str(n) for n in range(40)]
    rng = np.random.default_rng(0)
    estimates, reaches = [], []
    for _ in range(60):
        real = rng.normal(size=(40, 5))
        interval = frechet_interval(real, real + 0.5 + rng.normal(size=(40, 5)), names, names)
        estimates.append(interval.estimate)
        reaches.append(interval.upper - interval.estimate)
    assert np.mean(reaches) == pytest.approx(1.96 * np.std(estimates), rel=0.35)


def test_rows_of_one_patient_are_left_out_together():
    first, second = draw(12, 3, 1), draw(12, 3, 2)
    alone = [str(n) for n in range(12)]
    thirds = [str(n // 4) for n in range(12)]
    assert frechet_interval(first, second, alone, alone) != frechet_interval(first, second, thirds, thirds)


def test_too_little_or_unusable_is_refused():
    with pytest.raises(InputError, match="at least 2 rows"):
        frechet_distance(np.zeros((1, 3)), np.zeros((2, 3)))
    with pytest.raises(InputError, match="one length"):
        frechet_distance(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(InputError, match="finite"):
        frechet_distance(np.full((2, 3), np.nan), np.zeros((2, 3)))
    with pytest.raises(InputError, match="at least 3 patients"):
        frechet_interval(np.zeros((2, 3)), np.ones((2, 3)), ["a", "b"], ["a", "b"])
    with pytest.raises(InputError, match="for each row"):
        frechet_interval(np.zeros((2, 3)), np.ones((2, 3)), ["a"], ["a", "b"])
    with pytest.raises(InputError, match="between 0 and 1"):
        frechet_interval(draw(4, 2, 0), draw(4, 2, 1), list("abcd"), list("abcd"), level=95)


def test_equal_sets_have_no_interval():
    names = list("abcd")
    interval = frechet_interval(np.zeros((4, 2)), np.ones((4, 2)), names, names)
    assert interval.estimate == 2
    assert np.isnan([interval.lower, interval.upper]).all()
