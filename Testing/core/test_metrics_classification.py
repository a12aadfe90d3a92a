from itertools import product

import numpy as np
import pytest
from scipy import stats

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


def test_delong_interval_is_that_of_all_pairs_on_the_logit_scale(readings):
    labels, first, _ = readings
    areas, covariance = brute_force(labels, first)
    area, error = areas[0], covariance[0, 0] ** 0.5
    interval = delong_interval(labels, first)
    assert interval.estimate == pytest.approx(area)
    odds, reach = np.log(area / (1 - area)), 1.959964 * error / (area * (1 - area))
    ends = [1 / (1 + np.exp(-(odds + sign * reach))) for sign in (-1, 1)]
    assert (interval.lower, interval.upper) == pytest.approx(ends)


def test_delong_test_is_that_of_all_pairs(readings):
    labels, first, second = readings
    areas, covariance = brute_force(labels, first, second)
    z = (areas[0] - areas[1]) / np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference, p = delong_test(labels, first, second)
    assert difference.estimate == pytest.approx(areas[0] - areas[1])
    assert p == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_delong_interval_agrees_with_a_stratified_bootstrap(readings):
    labels, first, _ = readings
    rng = np.random.default_rng(0)
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    picks = [
        np.r_[rng.choice(positive, len(positive)), rng.choice(negative, len(negative))] for _ in range(2000)
    ]
    spread = np.std([auroc(labels[p], first[p]) for p in picks])
    interval = delong_interval(labels, first)
    assert (interval.upper - interval.lower) / 2 / 1.96 == pytest.approx(spread, rel=0.1)


def test_a_score_against_itself_differs_by_nothing_and_has_no_interval(readings):
    labels, first, _ = readings
    difference, p = delong_test(labels, first, 2 * first + 3)
    assert (difference.estimate, p) == (0, 1)
    assert np.isnan([difference.lower, difference.upper]).all()


def test_a_perfect_score_against_its_reverse_has_a_permutation_p():
    # The difference is 1 in 2 of the 2^4 exchanges of four patients' scores: p = 1/8; of ten it is 2/1024.
    labels, scores = np.array([0, 0, 1, 1]), np.arange(4.0)
    difference, p = delong_test(labels, scores, -scores)
    assert difference.estimate == 1
    assert np.isnan([difference.lower, difference.upper]).all()
    assert p == pytest.approx(1 / 8, abs=0.03)
    labels, scores = np.arange(10) // 5, np.arange(10.0)
    assert 0 < delong_test(labels, scores, -scores)[1] < 0.01


def test_perfect_separation_leaves_room_below_the_fewer_the_patients_the_more():
    few, many = (delong_interval(np.repeat([0, 1], n), np.repeat([0.0, 1.0], n)) for n in (5, 50))
    assert few.estimate == many.estimate == few.upper == many.upper == 1
    assert few.lower < 0.75 < 0.95 < many.lower < 1
    reverse = delong_interval(np.repeat([0, 1], 5), np.repeat([1.0, 0.0], 5))
    assert (reverse.estimate, reverse.lower, reverse.upper) == pytest.approx((0, 0, 1 - few.lower))


def test_equal_scores_are_at_a_half_with_an_interval_on_both_sides():
    interval = delong_interval(np.repeat([0, 1], 10), np.zeros(20))
    assert interval.estimate == 0.5
    assert interval.lower == pytest.approx(1 - interval.upper)
    assert 0.2 < interval.lower < 0.35


@pytest.mark.parametrize(("area", "count"), [(0.75, 10), (0.9, 10), (0.9, 20), (0.95, 20)])
def test_95_of_100_delong_intervals_hold_the_truth_at_few_patients(area, count):
    rng = np.random.default_rng(1)
    labels, shift = np.repeat([0, 1], count), np.sqrt(2) * stats.norm.ppf(area)
    held = [
        i.lower <= area <= i.upper
        for i in (delong_interval(labels, rng.normal(shift * labels, 1)) for _ in range(600))
    ]
    assert 0.93 <= np.mean(held) <= 0.99


def test_95_of_100_intervals_over_folds_hold_the_truth_whatever_the_models_scales():
    rng = np.random.default_rng(2)
    labels, folds = np.tile(np.repeat([0, 1], (9, 6)), 6), np.repeat(np.arange(6), 15)
    shift = np.sqrt(2) * stats.norm.ppf(0.85)
    held = []
    for _ in range(300):
        scores = rng.normal(shift * labels, 1) * (1 + folds) + 3 * folds
        interval = delong_interval(labels, scores, folds=folds)
        held.append(interval.lower <= 0.85 <= interval.upper)
    assert 0.93 <= np.mean(held) <= 0.99


def test_under_the_null_delongs_p_is_below_5_percent_in_at_most_5_of_100():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 15)
    below = []
    for _ in range(400):
        shared = rng.normal(1.2 * labels, 1)
        first, second = (shared + rng.normal(0, 0.7, 30) for _ in range(2))
        below.append(delong_test(labels, first, second)[1] < 0.05)
    assert np.mean(below) <= 0.07


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
        ([], [], "both present"),
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
    folds = np.repeat([0, 1], len(labels))
    both, scores = np.tile(labels, 2), np.concatenate([first, second])
    areas, covariance = brute_force(labels, first, second)
    mean = mean_auroc(both, scores, folds)
    assert mean.estimate == pytest.approx(areas.mean())
    error = np.sqrt(covariance[0, 0] + covariance[1, 1]) / 2
    reach = 1.959964 * error / (areas.mean() * (1 - areas.mean()))
    assert np.log(mean.upper / (1 - mean.upper)) - np.log(areas.mean() / (1 - areas.mean())) == pytest.approx(
        reach
    )
    assert mean_auroc(labels, first, np.zeros(len(labels))) == delong_interval(labels, first)


def test_folds_of_shifted_scores_are_not_ranked_against_one_another():
    labels, scores = np.tile([0, 0, 1, 1], 2), np.r_[np.arange(4.0), np.arange(4.0) + 100]
    folds = np.repeat([0, 1], 4)
    assert auroc(labels, scores) == 0.75
    assert auroc(labels, scores, folds) == 1
    assert delong_interval(labels, scores, folds=folds).estimate == 1
    assert mean_auroc(labels, scores, folds).estimate == 1
    assert roc_band(labels, scores, draws=2, folds=folds)[1].min() == 1


def test_larger_folds_count_for_more_by_their_pairs_and_alike_in_the_mean():
    # 2 x 2 pairs all in order, 4 x 2 pairs half of them: (4 * 1 + 8 * 0.5) / 12, and (1 + 0.5) / 2
    labels = np.array([0, 0, 1, 1, 0, 0, 0, 0, 1, 1])
    scores = np.array([0.0, 1, 2, 3, 5, 5, 8, 8, 7, 7])
    folds = np.repeat([0, 1], (4, 6))
    assert auroc(labels, scores, folds) == pytest.approx(8 / 12)
    assert mean_auroc(labels, scores, folds).estimate == pytest.approx(0.75)


def test_two_classifiers_of_other_folds_are_compared_patient_by_patient(readings):
    labels, first, second = readings
    folds = np.arange(60) % 2
    whole, _ = delong_test(labels, first, second)
    same, _ = delong_test(labels, first, second, first_folds=np.zeros(60), second_folds=np.zeros(60))
    assert same == whole
    mixed, _ = delong_test(labels, first, second, second_folds=folds)
    assert mixed.estimate == pytest.approx(auroc(labels, first) - auroc(labels, second, folds))
    assert mixed.upper - mixed.lower == pytest.approx(whole.upper - whole.lower, rel=0.3)


def test_folds_of_one_class_have_no_pair_and_one_patient_of_a_class_no_variance():
    labels, scores = np.array([0, 1, 0, 1, 1, 1]), np.arange(6.0)
    folds = np.array([0, 0, 0, 0, 1, 1])
    assert auroc(labels, scores, folds) == 0.75
    assert delong_interval(labels, scores, folds=folds).estimate == 0.75
    with pytest.raises(InputError, match="1 and 2 in a fold"):
        delong_interval(np.array([0, 0, 1, 0, 0, 1, 1]), np.arange(7.0), folds=np.array([0] * 3 + [1] * 4))
    with pytest.raises(InputError, match="both classes, got none"):
        auroc(np.array([0, 1]), np.arange(2.0), np.array([0, 1]))
    with pytest.raises(InputError, match="one fold a patient"):
        auroc(np.array([0, 1]), np.arange(2.0), np.array([0]))


@pytest.mark.parametrize(
    "measure",
    [
        lambda y, x: delong_interval(y, x, level=95),
        lambda y, x: delong_test(y, x, -x, level=95),
        lambda y, x: mean_auroc(y, x, np.zeros(len(y)), level=95),
        lambda y, x: roc_band(y, x, level=95),
        lambda y, x: operating_point(y, x, 0.5, level=95),
    ],
)
def test_a_level_of_95_is_refused(readings, measure):
    labels, first, _ = readings
    with pytest.raises(InputError, match=r"between 0 and 1, got 95"):
        measure(labels, first)


def test_a_threshold_that_is_no_number_is_refused(readings):
    with pytest.raises(InputError, match="threshold"):
        operating_point(*readings[:2], float("nan"))


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
