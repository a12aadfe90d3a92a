import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.calibration import (
    Calibration,
    brier,
    calibration_bins,
    expected_calibration_error,
    fit_platt,
)


@pytest.fixture
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    """4000 labels drawn at sigmoid(logit / 3 + 0.5)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, 4000)
    return logits, (rng.random(4000) < 1 / (1 + np.exp(-(logits / 3 + 0.5)))).astype(int)


def test_platt_finds_the_slope_and_intercept_that_made_the_labels(overconfident):
    fit = fit_platt(*overconfident)
    assert fit.slope == pytest.approx(1 / 3, abs=0.03)
    assert fit.intercept == pytest.approx(0.5, abs=0.1)


def test_platt_is_that_of_scikit_learn(overconfident):
    from sklearn.linear_model import LogisticRegression

    logits, labels = overconfident
    model = LogisticRegression(C=1e9).fit(logits[:, None], labels)
    fit = fit_platt(logits, labels)
    assert fit.slope == pytest.approx(float(model.coef_[0, 0]), abs=2e-3)
    assert fit.intercept == pytest.approx(float(model.intercept_[0]), abs=2e-3)


def test_platt_stays_finite_where_classes_are_separable():
    fit = fit_platt(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]))
    assert 0 < fit.slope < 100
    assert 0.5 < fit.probability(np.array([2.0]))[0] < 1


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0), (1, 1e4), (1000, -5e5), (1e8, 3e9), (-1, 0)])
def test_platt_gives_the_same_probabilities_whatever_the_scale_and_offset_of_the_scores(
    overconfident, scale, offset
):
    logits, labels = overconfident
    moved = logits * scale + offset
    expected = fit_platt(logits, labels).probability(logits)
    np.testing.assert_allclose(fit_platt(moved, labels).probability(moved), expected, atol=1e-5)


def test_platt_of_large_perfect_scores_rises_with_the_score():
    scores, labels = np.repeat([-900.0, 900.0], 50), np.repeat([0, 1], 50)
    fit = fit_platt(scores, labels)
    assert fit.slope > 0
    # the targets are (50 + 1) / (50 + 2) and 1 / (50 + 2)
    assert fit.probability(np.array([-900.0, 900.0])) == pytest.approx([1 / 52, 51 / 52], abs=1e-6)


def test_platts_gradient_vanishes_at_the_fit(overconfident):
    logits, labels = overconfident
    positives = labels.sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))
    error = fit_platt(logits, labels).probability(logits) - targets
    assert abs(error.mean()) < 1e-6
    assert abs((error * logits).mean()) < 1e-5


def test_platt_of_equal_scores_is_the_prevalence():
    fit = fit_platt(np.full(8, 3.0), np.array([0, 0, 0, 1, 0, 0, 0, 1]))
    assert fit.slope == 0
    # 6 targets of 1/8 and 2 of 3/4: 0.28
    assert fit.probability(np.array([3.0]))[0] == pytest.approx((6 / 8 + 2 * 3 / 4) / 8)


def test_calibration_lowers_brier_and_ece(overconfident):
    logits, labels = overconfident
    raw, fitted = Calibration().probability(logits), fit_platt(logits, labels).probability(logits)
    assert brier(fitted, labels) < brier(raw, labels)
    assert expected_calibration_error(fitted, labels) < 0.03 < expected_calibration_error(raw, labels)


def test_brier_by_hand():
    assert brier(np.array([0.0, 0.5]), np.array([0, 1])) == 0.125


def test_ece_by_hand():
    # bin of 0.9: rate 1/2, gap 0.4, half of the patients; bin of 0.2: rate 0, gap 0.2, the other half
    probabilities, labels = np.array([0.9, 0.9, 0.2, 0.2]), np.array([1, 0, 0, 0])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_a_probability_of_1_falls_in_the_last_bin():
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([1, 0])) == 0


def test_one_class_or_no_probability_is_refused():
    with pytest.raises(InputError, match="both present"):
        fit_platt(np.zeros(3), np.ones(3))
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        expected_calibration_error(np.array([1.5, 0.0]), np.array([1, 0]))
    with pytest.raises(InputError, match="at least 1 bin"):
        calibration_bins(np.array([0.5, 0.0]), np.array([1, 0]), bins=0)
    with pytest.raises(InputError, match="finite"):
        brier(np.array([0.5, np.nan]), np.array([1, 0]))


def test_the_bins_of_a_reliability_diagram_by_hand():
    probabilities, labels = np.array([0.95, 0.85, 0.82, 0.1]), np.array([1, 1, 0, 0])
    low, high, last = calibration_bins(probabilities, labels)
    assert (low.count, low.probability, low.rate.estimate) == (1, 0.1, 0)
    assert (high.count, round(high.probability, 3), high.rate.estimate) == (2, 0.835, 0.5)
    assert (last.count, last.rate.estimate) == (1, 1)
    assert low.rate.upper == pytest.approx(0.793, abs=1e-3)  # Wilson, 0 of 1


def test_the_bins_are_those_of_scikit_learn(overconfident):
    from sklearn.calibration import calibration_curve

    logits, labels = overconfident
    probabilities = Calibration().probability(logits)
    rates, means = calibration_curve(labels, probabilities, n_bins=10)
    found = calibration_bins(probabilities, labels)
    np.testing.assert_allclose([b.rate.estimate for b in found], rates)
    np.testing.assert_allclose([b.probability for b in found], means)


def test_labels_drawn_at_a_known_rate_do_not_move_the_fit_when_more_of_them_are_positive() -> None:
    """Of 20 the last 12 are positive, and the logits say nothing of it: at a prevalence of 0.5, chance."""
    labels = np.array([0] * 8 + [1] * 12)
    logits = np.r_[np.tile([-1.0, 1.0], 4), np.tile([-1.0, 1.0], 6)]
    assert fit_platt(logits, labels).probability(np.zeros(1))[0] == pytest.approx(0.6, abs=0.02)
    fitted = fit_platt(logits, labels, prevalence=0.5)
    assert fitted.slope == pytest.approx(0, abs=1e-6)
    assert fitted.probability(np.zeros(1))[0] == pytest.approx(0.5, abs=0.02)
    equal = fit_platt(np.zeros(20), labels, prevalence=0.5)
    assert equal.probability(np.zeros(1))[0] == pytest.approx(0.5, abs=0.02)
