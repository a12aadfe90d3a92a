import numpy as np
import pytest
from scipy import stats

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import (
    mean_interval,
    pearson,
    wilson,
)


def test_wilson_of_8_of_10_is_the_textbook_interval():
    # Agresti and Coull 1998, and any calculator: 0.490 to 0.943
    rate = wilson(8, 10)
    assert (rate.estimate, round(rate.lower, 3), round(rate.upper, 3)) == (0.8, 0.490, 0.943)


def test_wilson_stays_within_0_and_1_and_is_nan_without_trials():
    assert wilson(0, 5).lower == 0
    assert wilson(5, 5).upper == pytest.approx(1)
    assert np.isnan(wilson(0, 0).estimate)
    with pytest.raises(InputError, match="6 of 5"):
        wilson(6, 5)


def test_the_mean_has_the_textbook_t_interval():
    # 2, 4, 6: mean 4, deviation 2, t of 2 degrees 4.303: 4.303 * 2 / sqrt(3) = 4.968
    interval = mean_interval(np.array([2.0, 4.0, 6.0]))
    assert (interval.estimate, round(interval.lower, 3), round(interval.upper, 3)) == (4, -0.968, 8.968)


@pytest.mark.parametrize("count", [4, 8, 20])
@pytest.mark.parametrize("draw", ["normal", "uniform", "exponential"])
def test_95_of_100_intervals_of_a_mean_hold_the_truth_at_few_patients(count, draw):
    rng = np.random.default_rng(0)
    truth = {"normal": 0.0, "uniform": 0.5, "exponential": 1.0}[draw]
    values = getattr(rng, draw)(size=(2000, count))
    held = [i.lower <= truth <= i.upper for i in map(mean_interval, values)]
    assert (0.87 if draw == "exponential" else 0.93) <= np.mean(held) <= 0.97


def test_one_value_or_equal_ones_have_no_interval():
    for values in ([3.0], [3.0, 3.0, 3.0]):
        interval = mean_interval(np.array(values))
        assert interval.estimate == 3
        assert np.isnan([interval.lower, interval.upper]).all()
        assert interval.text(1) == "3.0 [-]"


def test_missing_values_are_refused():
    with pytest.raises(InputError, match="finite"):
        mean_interval(np.array([1.0, np.nan]))
    with pytest.raises(InputError, match="finite"):
        mean_interval(np.array([]))


@pytest.mark.parametrize(
    "measure",
    [
        lambda level: wilson(1, 2, level=level),
        lambda level: wilson(0, 0, level=level),
        lambda level: mean_interval(np.arange(5.0), level),
        lambda level: pearson(np.arange(5.0), np.array([0.0, 2, 1, 3, 4]), level),
    ],
)
@pytest.mark.parametrize("level", [95, 1.0, 0.0, -0.95, float("nan")])
def test_a_level_that_is_no_share_is_refused(measure, level):
    with pytest.raises(InputError, match="between 0 and 1"):
        measure(level)


def test_an_interval_reads_estimate_lower_upper():
    assert wilson(8, 10).text(2) == "0.80 [0.49, 0.94]"
    assert wilson(8, 10).text(2, signed=True) == "+0.80 [+0.49, +0.94]"


def test_a_correlation_and_its_interval_are_scipys():
    rng = np.random.default_rng(3)
    first = rng.normal(size=40)
    second = 0.5 * first + rng.normal(size=40)
    found, known = pearson(first, second), stats.pearsonr(first, second)
    assert found.estimate == pytest.approx(known.statistic)
    interval = known.confidence_interval(0.95)
    assert (found.lower, found.upper) == pytest.approx((interval.low, interval.high))
    certain = pearson(first, first)
    assert certain.estimate == pytest.approx(1.0)
    assert np.isnan([certain.lower, certain.upper]).all()
    for pair in ((first, second[:-1]), (first[:3], second[:3]), (first, np.ones(40))):
        with pytest.raises(InputError):
            pearson(*pair)
