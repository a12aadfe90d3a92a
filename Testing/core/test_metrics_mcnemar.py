import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.mcnemar import mcnemar, mcnemar_counts


def test_the_approval_ratings_of_agrestis_textbook():
    # Agresti, Categorical Data Analysis, table 10.1: 150 and 86 changed their mind,
    # z = (86 - 150) / sqrt(236) = -4.17
    result = mcnemar_counts(150, 86)
    assert result.chi_square_plain == pytest.approx(4.166**2, abs=0.01)
    assert result.p_plain == pytest.approx(3.1e-5, rel=0.02)


def test_the_correction_of_edwards_by_hand():
    # (|121 - 59| - 1)^2 / 180 = 20.67; without the correction 3844 / 180 = 21.36
    result = mcnemar_counts(121, 59)
    assert (round(result.chi_square, 2), round(result.chi_square_plain, 2)) == (20.67, 21.36)


def test_the_published_example_of_the_airways_of_21_children():
    # Fagerland, Lydersen and Laake, BMC Med Res Methodol 13:91 (2013), table 1: 1 and 7 discordant.
    # Exact: 2 (1 + 8) / 2^8; asymptotic: 6^2 / 8 = 4.5, with continuity correction 5^2 / 8
    result = mcnemar_counts(1, 7)
    assert result.exact_p == pytest.approx(18 / 256)
    assert (result.chi_square_plain, result.chi_square) == (4.5, 3.125)
    assert (round(result.p_plain, 3), round(result.p, 3)) == (0.034, 0.077)


def test_the_exact_p_is_that_of_the_binomial_distribution():
    from scipy.stats import binom

    for first, second in ((6, 16), (0, 5), (9, 8)):
        tail = binom.cdf(min(first, second), first + second, 0.5)
        assert mcnemar_counts(first, second).exact_p == pytest.approx(min(1, 2 * tail))


def test_answers_are_counted_where_they_differ():
    first = np.array([True, True, True, False, False])
    second = np.array([True, False, False, True, False])
    result = mcnemar(first, second)
    assert (result.first_only, result.second_only) == (2, 1)


def test_equal_answers_give_no_evidence():
    result = mcnemar(np.array([True, False]), np.array([True, False]))
    assert (result.exact_p, result.p, result.chi_square) == (1, 1, 0)


def test_a_gap_of_1_is_no_evidence_with_the_correction():
    assert mcnemar_counts(3, 2).p == 1
    assert mcnemar_counts(3, 3).chi_square == 0


def test_unpaired_or_other_than_boolean_answers_are_refused():
    with pytest.raises(InputError, match="paired"):
        mcnemar(np.array([True]), np.array([True, False]))
    with pytest.raises(InputError, match="true and false"):
        mcnemar(np.array([0.2]), np.array([0.3]))
    with pytest.raises(InputError, match="at least 0"):
        mcnemar_counts(-1, 2)
