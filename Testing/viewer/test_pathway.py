"""What the page says of a case is what the rules say; the score beside it is the result's."""

import types

import pytest

from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.pipelines.bundle import read_bundle_json
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.triage.criteria import PERC
from xray2ctpa_core.triage.likelihood import PE_COUNTS
from xray2ctpa_core.triage.scoring import score_of
from xray2ctpa_core.viewer.pathway import pathway

COUNTS = {"true_positive": 34, "false_negative": 12, "false_positive": 15, "true_negative": 43}
OPINION = {
    "probability": 0.61,
    "threshold": 0.5,
    "positive": True,
    "calibrated": True,
    "rests_on": "radiograph alone",
}


def record(probability: float | None = 0.25, **pe) -> dict:
    return {
        "pe": {"probability": probability, "threshold": 0.5} | pe,
        "bundle": {"name": "m", "sha256": "ab" * 32},
    }


def shown(**entered) -> dict:
    return pathway(record(), entered, DEFAULT_BUNDLE)


def way(drawn: dict) -> list[str]:
    return [box["name"] for box in drawn["boxes"] if box["on_way"]]


def test_four_and_a_half_points_of_wells_lead_to_ctpa_without_d_dimer():
    drawn = shown(wells=["dvt_signs", "heart_rate"], age=80, d_dimer=0.1, unit="mg/L FEU")
    assert drawn["headline"] == "Wells 4.5. Next: CTPA."
    assert way(drawn) == ["suspected", "wells", "ctpa"]
    assert [(a["from"], a["to"]) for a in drawn["arrows"] if a["on_way"]] == [
        ("suspected", "wells"),
        ("wells", "ctpa"),
    ]


def test_the_cut_off_is_adjusted_to_age_and_a_score_changes_no_step():
    assert shown(age=80, d_dimer=0.75, unit="mg/L FEU")["headline"] == "Wells 0. Next: excluded by D-dimer."
    assert shown(age=40, d_dimer=0.75, unit="mg/L FEU")["headline"] == "Wells 0. Next: CTPA."
    for probability in (0.01, 0.99, None):
        drawn = pathway(record(probability), {}, DEFAULT_BUNDLE)
        assert drawn["headline"] == "Wells 0. Next: measure D-dimer."
        assert drawn["notice"].startswith("Research use only. The generated score never replaces a D-dimer")


def test_perc_counts_only_where_pe_is_thought_unlikely():
    all_eight = [criterion.name for criterion in PERC]
    assert shown(perc=all_eight)["headline"] == "Wells 0. Next: measure D-dimer."
    assert shown(perc=all_eight, gestalt_low=True)["headline"] == "Wells 0. Next: excluded by PERC."
    assert way(shown(unstable=True)) == ["suspected", "other"]


@pytest.mark.parametrize(
    ("entered", "expected"),
    [
        ({"wells": ["fever"]}, "got fever"),
        ({"wells": "dvt_signs"}, "list of items"),
        ({"perc": [1]}, "list of items"),
        ({"age": -1}, "age from 0 to 120"),
        ({"age": True}, "age from 0 to 120"),
        ({"d_dimer": float("nan")}, "d_dimer from 0"),
        ({"d_dimer": 1, "unit": "pg"}, "got 1.0 pg"),
        ({"d_dimer": 1, "unit": ["ng/mL FEU"]}, "Expected one of ng/mL FEU"),
    ],
)
def test_what_is_no_item_number_or_unit_is_refused(entered, expected):
    with pytest.raises(InputError, match=expected):
        shown(**entered)


def test_a_model_without_classifier_has_no_score_and_a_second_opinion_stands_beside():
    said = pathway(record(None), {}, DEFAULT_BUNDLE)["beside"]
    assert said == ["No PE score: this model has no PE classifier."]
    said = pathway(record(second_opinion=OPINION), {}, DEFAULT_BUNDLE)["beside"]
    assert said[0] == "Generated CTPA: score 0.25, below its operating point 0.50."
    assert said[-1].startswith("Second opinion 0.61 (calibrated), at or above its operating point 0.50.")


def test_patients_stand_behind_the_model_that_made_the_result_and_behind_no_other():
    def counts(sha256: str, is_demonstration: bool = False, metrics=None):
        metrics = {PE_COUNTS: COUNTS} if metrics is None else metrics
        model = types.SimpleNamespace(sha256=sha256, is_demonstration=is_demonstration, metrics=metrics)
        return score_of(record(), model).counts

    found = counts("ab" * 32)
    assert found is not None
    assert (found.diseased, found.healthy) == (46, 58)
    assert counts("cd" * 32) is None
    assert counts("ab" * 32, is_demonstration=True) is None
    assert counts("ab" * 32, metrics={PE_COUNTS: {"true_positive": 1}}) is None
    assert score_of(record(), None).counts is None


def test_the_model_is_found_by_its_checksum_and_a_missing_one_harms_nothing(tmp_path):
    info = read_bundle_json(resolve_bundle(DEFAULT_BUNDLE))
    made = record() | {"bundle": {"name": info.name, "sha256": info.sha256}}
    said = pathway(made, {}, str(tmp_path / "gone"))["beside"]
    assert info.is_demonstration
    assert "likelihood ratio is not known" in said[1]
