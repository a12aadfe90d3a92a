import numpy as np
import pytest
from scipy import stats

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import (
    bootstrap_mean,
    paired_bootstrap_difference,
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


def test_the_bootstrap_agrees_with_the_normal_interval_on_many_values():
    values = np.random.default_rng(1).normal(5, 2, 400)
    interval = bootstrap_mean(values)
    expected = 1.96 * values.std(ddof=1) / 20
    assert interval.upper - interval.estimate == pytest.approx(expected, rel=0.1)
    assert interval.estimate - interval.lower == pytest.approx(expected, rel=0.1)


def test_the_bootstrap_is_the_same_for_the_same_seed():
    values = np.arange(20.0)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_pairing_removes_what_patients_share():
    rng = np.random.default_rng(0)
    patient = rng.normal(0, 10, 50)
    interval = paired_bootstrap_difference(patient + 1 + rng.normal(0, 0.1, 50), patient)
    assert interval.estimate == pytest.approx(1, abs=0.1)
    assert interval.upper - interval.lower < 0.2


def test_unpaired_or_missing_values_are_refused():
    with pytest.raises(InputError, match="equal lengths"):
        paired_bootstrap_difference(np.ones(3), np.ones(4))
    with pytest.raises(InputError, match="finite"):
        bootstrap_mean(np.array([1.0, np.nan]))
    with pytest.raises(InputError, match="between 0 and 1"):
        wilson(1, 2, level=95)


def test_an_interval_reads_estimate_lower_upper():
    assert wilson(8, 10).text(2) == "0.80 [0.49, 0.94]"


def test_a_correlation_and_its_interval_are_scipys():
    rng = np.random.default_rng(3)
    first = rng.normal(size=40)
    second = 0.5 * first + rng.normal(size=40)
    found, known = pearson(first, second), stats.pearsonr(first, second)
    assert found.estimate == pytest.approx(known.statistic)
    interval = known.confidence_interval(0.95)
    assert (found.lower, found.upper) == pytest.approx((interval.low, interval.high))
    assert pearson(first, first).estimate == pytest.approx(1.0)
    for pair in ((first, second[:-1]), (first[:3], second[:3]), (first, np.ones(40))):
        with pytest.raises(InputError):
            pearson(*pair)
