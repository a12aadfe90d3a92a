"""Wells, YEARS, age-adjusted D-dimer, PERC, likelihood ratios and the pathway; numbers counted by hand."""

import itertools
import math

import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.triage import rules, workflow
from xray2ctpa_core.triage.criteria import PERC, SOURCES, WELLS
from xray2ctpa_core.triage.likelihood import PE_COUNTS, Counts, counts_in, post_test
from xray2ctpa_core.triage.scoring import score_of
from xray2ctpa_core.triage.workflow import ARROWS, BOXES, STEPS, Case, Score, beside, box_texts, way_of

ALL_PERC = frozenset(criterion.name for criterion in PERC)


def test_the_wells_items_sum_to_twelve_and_a_half() -> None:
    assert rules.wells_score([criterion.name for criterion in WELLS]) == 12.5
    assert rules.wells_score([]) == 0.0
    assert rules.wells_score(["haemoptysis", "heart_rate"]) == 2.5
    with pytest.raises(InputError, match="got fever"):
        rules.wells_score(["fever"])


def test_every_reason_ends_with_its_source_and_one_full_stop() -> None:
    cases = [
        Case(),
        Case(age=80, d_dimer=700),
        Case(age=80, d_dimer=900),
        Case(d_dimer=900),
        Case(unstable=True),
    ]
    for reason in itertools.chain.from_iterable(way_of(case).reasons for case in cases):
        assert reason.endswith(").")
        assert not any(wrong in reason for wrong in (".:", "..", ". )"))
    assert way_of(cases[2]).reasons[1] == (
        "D-dimer 900 is raised, from 800 ng/mL FEU, age-adjusted: CTPA (Righini et al. (ADJUST-PE), JAMA "
        "2014;311:1117)."
    )


@pytest.mark.parametrize(("score", "tier"), [(0.0, "unlikely"), (4.0, "unlikely"), (4.5, "likely")])
def test_four_points_are_still_unlikely(score: float, tier: str) -> None:
    assert rules.wells_tier(score).name == tier


@pytest.mark.parametrize(
    ("age", "cutoff"), [(None, 500.0), (30, 500.0), (50, 500.0), (51, 510.0), (80, 800.0)]
)
def test_the_cut_off_rises_by_ten_a_year_above_fifty(age: int | None, cutoff: float) -> None:
    assert rules.age_adjusted_cutoff(age) == cutoff


@pytest.mark.parametrize(
    ("value", "unit", "feu"), [(400, "ng/mL FEU", 400), (0.4, "mg/L FEU", 400), (250, "ng/mL DDU", 500)]
)
def test_units_are_turned_into_feu(value: float, unit: str, feu: float) -> None:
    assert rules.d_dimer_feu(value, unit) == pytest.approx(feu)
    with pytest.raises(InputError, match="Expected a D-dimer"):
        rules.d_dimer_feu(value, "pg")


@pytest.mark.parametrize(
    ("items", "d_dimer", "excludes"),
    [
        ([], 999, True),
        ([], 1000, False),
        (["haemoptysis"], 499, True),
        (["haemoptysis"], 500, False),
        (["heart_rate"], 999, True),  # no item of YEARS
    ],
)
def test_years_takes_1000_without_and_500_with_one_of_its_three_items(items, d_dimer, excludes) -> None:
    assert rules.years_excludes(items, d_dimer) is excludes
    assert sum(criterion.years for criterion in WELLS) == 3


def test_perc_needs_all_eight() -> None:
    assert len(PERC) == 8
    assert rules.perc_met(ALL_PERC)
    assert not any(rules.perc_met(ALL_PERC - {name}) for name in ALL_PERC)


def test_likelihood_ratios_and_intervals_are_those_of_the_log_method() -> None:
    # By hand: sensitivity 34/46, specificity 43/58.
    counts = Counts(34, 12, 15, 43)
    positive, negative = counts.ratio(True), counts.ratio(False)
    assert positive.estimate == pytest.approx((34 / 46) / (15 / 58))
    assert negative.estimate == pytest.approx((12 / 46) / (43 / 58))
    spread = 1.959964 * math.sqrt(1 / 34 - 1 / 46 + 1 / 15 - 1 / 58)
    assert positive.upper / positive.estimate == pytest.approx(math.exp(spread))
    assert positive.estimate / positive.lower == pytest.approx(math.exp(spread))
    assert Counts(10, 0, 5, 20).ratio(False).lower > 0, "an empty cell gives no infinite interval"
    with pytest.raises(InputError, match="one kind only"):
        Counts(0, 0, 3, 4)


def test_a_bundles_counts_are_read_and_wrong_ones_refused() -> None:
    names = ("true_positive", "false_negative", "false_positive", "true_negative")
    counts = dict(zip(names, (34, 12, 15, 43), strict=True))
    assert counts_in({PE_COUNTS: counts}) == Counts(34, 12, 15, 43)
    assert counts_in({"psnr": 20.0}) is None
    with pytest.raises(InputError, match="Expected four counts"):
        counts_in({PE_COUNTS: {"true_positive": 3}})


@pytest.mark.parametrize(
    ("pre_test", "ratio", "after"),
    [(0.121, 0.35, 0.046), (0.121, 2.85, 0.28), (0.37, 0.35, 0.17), (0.37, 2.85, 0.63), (0.013, 0.35, 0.005)],
)
def test_the_papers_operating_point_leaves_what_the_facts_say(pre_test, ratio, after) -> None:
    assert post_test(pre_test, ratio) == pytest.approx(after, abs=0.006)


@pytest.mark.parametrize(
    ("case", "step"),
    [
        (Case(unstable=True, d_dimer=100.0), "other pathway"),
        (Case(["dvt_signs", "heart_rate"], d_dimer=100.0), "CTPA"),  # 4.5 points: likely whatever the D-dimer
        (Case(["dvt_signs", "haemoptysis"]), "measure D-dimer"),
        (Case(["dvt_signs", "haemoptysis"], d_dimer=499.0), "excluded by D-dimer"),
        (Case(["dvt_signs", "haemoptysis"], d_dimer=500.0), "CTPA"),
        (Case(age=80, d_dimer=799.0), "excluded by D-dimer"),
        (Case(age=80, d_dimer=800.0), "CTPA"),
        (Case(perc=ALL_PERC, gestalt_low=True), "excluded by PERC"),
        (Case(perc=ALL_PERC), "measure D-dimer"),  # not thought unlikely: PERC does not count
        (Case(["dvt_signs", "pe_most_likely"], perc=ALL_PERC, gestalt_low=True), "CTPA"),
    ],
)
def test_a_case_goes_where_the_rules_send_it(case: Case, step: str) -> None:
    way = way_of(case)
    assert way.step == step
    assert way.reasons
    arrows = {(first, second) for first, second, _text in ARROWS}
    assert set(itertools.pairwise(way.boxes)) <= arrows, "the way runs along the arrows of the drawing"


def test_every_branch_names_its_source() -> None:
    for case in (
        Case(),
        Case(unstable=True),
        Case(age=70, d_dimer=600.0),
        Case(perc=ALL_PERC, gestalt_low=True),
    ):
        for reason in way_of(case).reasons:
            assert any(source in reason for source in SOURCES.values()), reason


def test_no_score_of_the_model_moves_any_patient() -> None:
    """The rules take no score; and whatever it is, what stands beside them excludes nothing."""
    counts = Counts(34, 12, 15, 43)
    for d_dimer, points in itertools.product((None, 100.0, 900.0), ([], ["dvt_signs", "heart_rate"])):
        case = Case(points, d_dimer=d_dimer)
        for value in (0.0, 0.49, 0.5, 1.0):
            text = " ".join(beside(case, Score(value, 0.5, counts)))
            assert way_of(case).step in STEPS
            assert "excluded" not in text
            assert "no CTPA" not in text
        assert "Excludes nothing" in " ".join(beside(case, Score(0.0, 0.5, counts)))


def test_what_the_score_changes_is_said_with_its_interval_and_its_patients() -> None:
    _first, second, use = beside(Case(), Score(0.7, 0.5, Counts(34, 12, 15, 43)))
    assert second.startswith("LR+ 2.86 [1.79, 4.57], 95 % interval, of 46 patients with and 58 without PE:")
    assert "12 % would become 28.2 % [19.8, 38.6]." in second
    assert "order of work" in use
    assert "not known" in beside(Case(), Score(0.7, 0.5))[1]
    assert beside(Case(), None) == ("No generated CTPA is selected.",)


@pytest.mark.parametrize(
    ("entered", "said"),
    [
        ({"age": 80}, "Age 80"),
        ({"wells": ["haemoptysis"]}, "Haemoptysis"),
        ({"wells": ["heart_rate", "cancer"]}, "Heart rate over 100 per minute"),
        ({"wells": ["pe_most_likely"]}, "PE the most likely diagnosis, or as likely"),
        ({"wells": ["dvt_signs"], "age": 50}, "Clinical signs of DVT; Age 50"),
    ],
)
def test_perc_excludes_nothing_where_other_entries_contradict_it(entered, said) -> None:
    assert way_of(Case(perc=ALL_PERC, gestalt_low=True, age=49, wells=["cancer"])).step == "excluded by PERC"
    way = way_of(Case(perc=ALL_PERC, gestalt_low=True, **entered))
    assert way.step == "measure D-dimer"
    assert way.boxes[-1] == "d_dimer"
    assert f"PERC excludes nothing, because it contradicts: {said} (" in way.reasons[1]


def test_a_score_that_means_nothing_is_not_used_and_not_even_named() -> None:
    pe = {"probability": 0.73, "threshold": 0.5, "second_opinion": {"probability": 0.9}, "unreliable": "No."}
    score = score_of({"pe": pe, "bundle": {"sha256": ""}}, None)
    assert beside(Case(), score) == ("The score of the generated CTPA is not used. No.",)
    assert box_texts(score)["model"] == "X-ray2CTPA score,\nnot used"
    assert box_texts(None)["model"] == BOXES["model"][0]
    assert box_texts(Score(0.7, 0.5)) == box_texts(None)


def test_where_years_and_the_age_adjusted_cut_off_differ_the_risk_is_said() -> None:
    reasons = " ".join(way_of(Case(age=60, d_dimer=700.0)).reasons)
    assert "YEARS excludes PE" in reasons
    assert "6.3 % had PE" in reasons
    assert way_of(Case(age=60, d_dimer=700.0)).step == "CTPA", "the stricter of the two is followed"


def test_boxes_of_the_drawing_stand_apart_and_arrows_join_them() -> None:
    places = [(column, row) for _text, column, row in BOXES.values()]
    assert len(set(places)) == len(places)
    assert {name for arrow in ARROWS for name in arrow[:2]} | {"model"} == set(BOXES)
    assert "never replaces" in workflow.TRIAGE_NOTICE
