"""Standard errors of AUROCs and the patients that a difference needs."""

import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.power import auroc_error, difference_error, patients_needed


@pytest.mark.parametrize(
    ("area", "error"), [(0.691, 0.068), (0.77, 0.063), (0.80, 0.060), (0.824, 0.057), (0.858, 0.052)]
)
def test_errors_of_cmkds_test_set_of_23_and_63_patients(area: float, error: float) -> None:
    assert auroc_error(area, 23, 63) == pytest.approx(error, abs=0.0006)


def test_hanley_and_mcneils_own_example() -> None:
    """58 normal and 51 abnormal patients, area 0.893 (Radiology 1982, table II): error 0.032."""
    assert auroc_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.0006)


def test_correlated_estimates_differ_less_than_independent_ones() -> None:
    apart = difference_error(0.8, 0.8, 50, 50, 0.0)
    assert apart == pytest.approx(2**0.5 * auroc_error(0.8, 50, 50))
    assert difference_error(0.8, 0.8, 50, 50, 0.75) == pytest.approx(apart / 2)


def test_the_count_found_suffices_and_one_less_does_not() -> None:
    count = patients_needed(0.80, 0.83, 0.34)
    reach = 1.959964 + 0.841621

    def error(patients: int) -> float:
        return difference_error(0.80, 0.83, 0.34 * patients, 0.66 * patients, 0.5)

    assert reach * error(count) <= 0.03 < reach * error(count - 1)


def test_a_difference_of_0_03_needs_two_thousand_patients() -> None:
    assert patients_needed(0.80, 0.83, 0.34) == 2050
    assert patients_needed(0.80, 0.83, 0.34, correlation=0.0) > patients_needed(0.80, 0.83, 0.34)
    assert patients_needed(0.70, 0.85, 0.34) < 100


def test_equal_areas_and_rates_beyond_0_and_1_are_refused() -> None:
    for arguments in ((0.8, 0.8, 0.3), (0.8, 0.9, 1.0)):
        with pytest.raises(InputError, match="Expected different areas"):
            patients_needed(*arguments)
    with pytest.raises(InputError, match="area in"):
        auroc_error(1.0, 10, 10)
