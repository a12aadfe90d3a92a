"""Sentences that several parts say."""

from xray2ctpa_core.wording import score_sentence, second_opinion_sentence


def test_a_score_below_its_operating_point_is_said_to_be_so():
    assert score_sentence(0.42, 0.5) == "Model's PE score 0.42, below its operating point 0.50"


def test_a_score_at_its_operating_point_counts_as_at_or_above():
    assert score_sentence(0.5, 0.5) == "Model's PE score 0.50, at or above its operating point 0.50"


def test_calibration_is_said_where_it_is_asked_for():
    assert "score 0.42 (calibrated), below" in score_sentence(0.42, 0.5, calibrated=True)
    assert "score 0.42 (not calibrated), below" in score_sentence(0.42, 0.5, calibrated=False)


def test_a_score_beside_its_operating_point_is_told_apart_from_it():
    assert "score 0.442, at or above its operating point 0.439" in score_sentence(0.4419, 0.4394)
    assert "score 0.44, at or above its operating point 0.44" in score_sentence(0.44, 0.44)
    opinion = {
        "probability": 0.4419,
        "threshold": 0.4394,
        "positive": True,
        "calibrated": True,
        "rests_on": "x",
    }
    assert "0.442 (calibrated), at or above its operating point 0.439." in second_opinion_sentence(opinion)
