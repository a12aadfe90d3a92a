"""A record of another version, or a garbled one, is shown as far as it goes or refused in words."""

import copy
import json

import pytest
from scenes import RECORD, UNLIKE, write_result

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.viewer import case
from xray2ctpa_core.viewer.words import words_of


def record(**pe) -> dict:
    made = copy.deepcopy(RECORD)
    made["pe"] |= pe
    return made


def test_the_scores_the_reason_against_them_and_all_else_are_told_apart():
    words = words_of(record(unreliable=UNLIKE))
    assert words["unreliable"] == UNLIKE
    assert [line[:18] for line in words["scores"]] == ["Model's PE score 0", "Over 2 samples the"]
    assert words["sentences"][0].startswith("The score rates this generated volume")
    assert UNLIKE not in words["sentences"]
    assert "The lungs reach the radiograph's top edge." in words["sentences"]
    assert ("pe.probability", "0.25") in words["rows"]


def test_a_record_from_before_reasons_and_samples_has_a_score():
    made = record()
    del made["pe"]["per_sample"]
    words = words_of(made)
    assert words["unreliable"] is None
    assert len(words["scores"]) == 1
    assert words["pe"]["per_sample"] == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"pe": {}}, "KeyError: 'probability'"),
        ({"pe": None}, "TypeError"),
        ({"notice": None, "sampling": []}, "TypeError"),
        ({"pe": RECORD["pe"] | {"probability": "high"}}, "TypeError"),
        ({"pe": RECORD["pe"] | {"probability": float("nan")}}, "not JSON compliant"),
        ({"pe": RECORD["pe"] | {"second_opinion": {"probability": 0.5}}}, "KeyError: 'positive'"),
        ({"pe": RECORD["pe"] | {"second_opinion": None}}, "AttributeError"),
    ],
)
def test_a_garbled_record_is_an_input_error(wrong, named, tmp_path):
    folder = write_result(tmp_path / "result")
    (folder / "result.json").write_text(json.dumps(record() | wrong), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"Expected .*result.json as `xray2ctpa generate` writes it"
    ) as caught:
        case.check(folder, None, None)
    assert named in caught.value.message
    assert "Generate the result again" in caught.value.hint


def test_a_truth_or_radiograph_that_cannot_be_read_keeps_its_own_words(tmp_path):
    folder = write_result(tmp_path / "result")
    (tmp_path / "truth.nii.gz").write_bytes(b"no volume")
    with pytest.raises(InputError, match=r"truth.nii.gz"):
        case.check(folder, None, tmp_path / "truth.nii.gz")
