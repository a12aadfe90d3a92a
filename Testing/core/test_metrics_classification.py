from itertools import product

import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.classification import (
    auroc,
    delong_interval,
    delong_test,
    mean_auroc,
    operating_point,
    roc_band,
    youden_threshold,
)


def brute_force(labels, *scores):
    """DeLong 1988, eqs. 3 to 6, pair by pair: areas and their covariance matrix."""
    v10, v01 = [], []
    for score in scores:
        positive, negative = score[labels == 1], score[labels == 0]
        kernel = np.array([[1.0 if p > n else 0.5 if p == n else 0.0 for n in negative] for p in positive])
        v10.append(kernel.mean(axis=1))
        v01.append(kernel.mean(axis=0))
    m, n = len(v10[0]), len(v01[0])
    areas = np.array([v.mean() for v in v10])
    size = len(scores)
    covariance = np.zeros((size, size))
    for r, s in product(range(size), repeat=2):
        s10 = sum((v10[r] - areas[r]) * (v10[s] - areas[s])) / (m - 1)
        s01 = sum((v01[r] - areas[r]) * (v01[s] - areas[s])) / (n - 1)
        covariance[r, s] = s10 / m + s01 / n
    return areas, covariance


@pytest.fixture
def readings():
    """60 patients, two correlated scores with ties."""
    rng = np.random.default_rng(5)
    labels = (np.arange(60) % 3 == 0).astype(int)
    shared = labels + rng.normal(0, 1, 60)
    return labels, np.round(shared + rng.normal(0, 0.5, 60), 1), np.round(shared + rng.normal(0, 1.5, 60), 1)


def test_auroc_counts_pairs_in_order_and_ties_half():
    # pairs (0.8, 0.1) (0.8, 0.4) in order, (0.4, 0.1) in order, (0.4, 0.4) tied: 3.5 of 4
    assert auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8])) == 3.5 / 4


def test_auroc_is_that_of_scikit_learn(readings):
    from sklearn.metrics import roc_auc_score

    labels, first, second = readings
    assert auroc(labels, first) == pytest.approx(roc_auc_score(labels, first))
    assert auroc(labels, second) == pytest.approx(roc_auc_score(labels, second))


def test_delong_interval_is_that_of_all_pairs(readings):
    labels, first, _ = readings
    areas, covariance = brute_force(labels, first)
    interval = delong_interval(labels, first)
    assert interval.estimate == pytest.approx(areas[0])
    assert interval.upper == pytest.approx(min(1, areas[0] + 1.959964 * covariance[0, 0] ** 0.5))
    assert interval.lower == pytest.approx(areas[0] - 1.959964 * covariance[0, 0] ** 0.5)


def test_delong_test_is_that_of_all_pairs(readings):
    from scipy.stats import norm

    labels, first, second = readings
    areas, covariance = brute_force(labels, first, second)
    z = (areas[0] - areas[1]) / np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference, p = delong_test(labels, first, second)
    assert difference.estimate == pytest.approx(areas[0] - areas[1])
    assert p == pytest.approx(2 * norm.sf(abs(z)))


def test_delong_interval_agrees_with_a_stratified_bootstrap(readings):
    labels, first, _ = readings
    rng = np.random.default_rng(0)
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    picks = [
        np.r_[rng.choice(positive, len(positive)), rng.choice(negative, len(negative))] for _ in range(2000)
    ]
    spread = np.std([auroc(labels[p], first[p]) for p in picks])
    interval = delong_interval(labels, first)
    assert (interval.estimate - interval.lower) / 1.96 == pytest.approx(spread, rel=0.1)


def test_a_score_against_itself_differs_by_nothing(readings):
    labels, first, _ = readings
    difference, p = delong_test(labels, first, 2 * first + 3)
    assert (difference.estimate, difference.lower, difference.upper, p) == (0, 0, 0, 1)


def test_a_perfect_score_against_its_reverse_is_certain():
    labels, scores = np.array([0, 0, 1, 1]), np.arange(4.0)
    assert delong_interval(labels, scores).upper == 1
    difference, p = delong_test(labels, scores, -scores)
    assert (difference.estimate, p) == (1, 0)


def test_youden_threshold_by_hand():
    # calling positive from 0.6 on: sensitivity 2/3, specificity 1; from 0.3 on: 1 and 1/3
    labels, scores = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.4, 0.5, 0.3, 0.6, 0.9])
    assert youden_threshold(labels, scores) == 0.6


def test_the_operating_point_counts_by_hand():
    labels, scores = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.4, 0.5, 0.3, 0.6, 0.9])
    point = operating_point(labels, scores, 0.5)
    assert point.sensitivity.estimate == pytest.approx(2 / 3)
    assert point.specificity.estimate == pytest.approx(2 / 3)
    assert point.ppv.estimate == pytest.approx(2 / 3)
    assert point.npv.estimate == pytest.approx(2 / 3)
    assert point.accuracy.estimate == pytest.approx(4 / 6)
    assert point.sensitivity.lower < 2 / 3 < point.sensitivity.upper


def test_nobody_called_positive_leaves_the_ppv_open():
    point = operating_point(np.array([0, 1]), np.array([0.1, 0.2]), 0.9)
    assert np.isnan(point.ppv.estimate)
    assert point.sensitivity.estimate == 0


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "both present"),
        ([0, 2], [0.1, 0.2], "both present"),
        ([0, 1], [0.1, np.nan], "finite"),
        ([0, 1, 1], [0.1, 0.2], "one label a score"),
    ],
)
def test_unusable_labels_and_scores_are_refused(labels, scores, message):
    with pytest.raises(InputError, match=message):
        auroc(np.array(labels), np.array(scores))


def test_delong_needs_two_patients_of_each_class():
    with pytest.raises(InputError, match="at least 2 patients"):
        delong_interval(np.array([0, 0, 1]), np.arange(3.0))


def test_the_mean_over_folds_by_hand(readings):
    labels, first, second = readings
    one, two = delong_interval(labels, first), delong_interval(labels, second)
    mean = mean_auroc([(labels, first), (labels, second)])
    assert mean.estimate == pytest.approx((one.estimate + two.estimate) / 2)
    errors = [(i.estimate - i.lower) / 1.959964 for i in (one, two)]
    assert mean.estimate - mean.lower == pytest.approx(1.959964 * np.hypot(*errors) / 2)
    assert mean_auroc([(labels, first)]) == one


def test_folds_of_shifted_scores_are_not_compared_with_one_another():
    labels, scores = np.array([0, 0, 1, 1]), np.arange(4.0)
    folds = [(labels, scores), (labels, scores + 100)]
    assert mean_auroc(folds).estimate == 1
    assert auroc(np.tile(labels, 2), np.concatenate([s for _, s in folds])) == 0.75


def test_no_folds_are_refused():
    with pytest.raises(InputError, match="at least one fold"):
        mean_auroc([])


def test_the_roc_curve_is_that_of_scikit_learn(readings):
    from sklearn.metrics import roc_curve

    labels, first, _ = readings
    rates, sensitivity, lower, upper = roc_band(labels, first)
    false_rate, true_rate, _ = roc_curve(labels, first, drop_intermediate=False)
    expected = [true_rate[false_rate <= rate + 1e-12].max() for rate in rates]
    np.testing.assert_allclose(sensitivity, expected)
    assert (lower <= sensitivity + 1e-9).mean() > 0.95
    assert (upper >= sensitivity - 1e-9).mean() > 0.95
    assert sensitivity[-1] == lower[-1] == 1
