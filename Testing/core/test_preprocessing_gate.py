"""The gate's judgement from class probabilities and lung features."""

from dataclasses import replace

import numpy as np
import pytest

from xray2ctpa_core.preprocessing.gate import judge
from xray2ctpa_core.preprocessing.lung_box import LungShape
from xray2ctpa_core.preprocessing.mediastinum import Mediastinum

NO_CONTACT = (0.0, 0.0, 0.0, 0.0)
SOUND = LungShape((20, 20, 100, 108), (0.17, 0.16), (1.0, 0.9), 1.1, NO_CONTACT)
FRONTAL = np.array([0.97, 0.02, 0.01])


def test_a_sound_frontal_radiograph_passes_without_a_word():
    report = judge(FRONTAL, SOUND, (2000, 2000))
    assert report.accepted
    assert report.warnings == ()
    assert report.is_frontal_cxr == pytest.approx(0.97)


def test_another_picture_is_refused_and_named():
    report = judge(np.array([0.05, 0.05, 0.9]), SOUND, (2000, 2000))
    assert not report.accepted
    assert "not a chest radiograph" in report.warnings[-1]


def test_a_frontal_radiograph_without_lungs_is_refused():
    report = judge(FRONTAL, LungShape(None, (0.0, 0.0), (0.0, 0.0), 0.0, NO_CONTACT), (2000, 2000))
    assert not report.accepted
    assert "No lungs were found." in report.warnings


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (LungShape((20, 20, 100, 55), (0.17, 0.0), (1.0, 0.0), 0.8, NO_CONTACT), "left lung was not found"),
        (
            LungShape((20, 20, 100, 108), (0.17, 0.05), (1.0, 0.3), 1.1, NO_CONTACT),
            "left lung is seen in part",
        ),
        (
            LungShape((20, 20, 100, 108), (0.17, 0.16), (1.0, 0.9), 1.1, (0.0, 0.0, 0.2, 0.0)),
            "reach the radiograph's bottom edge",
        ),
        (LungShape((20, 20, 60, 120), (0.2, 0.2), (1.0, 1.0), 2.5, NO_CONTACT), "2.5 times as wide"),
        (
            LungShape(SOUND.box, SOUND.areas, SOUND.heights, 1.1, NO_CONTACT, (0.95, 0.2, 0.2, 0.2)),
            "seem to be cut off at the radiograph's top, or to end right at it",
        ),
        (
            LungShape(SOUND.box, SOUND.areas, SOUND.heights, 1.1, NO_CONTACT, tilt_degrees=-17.0),
            "turned by about 17 degrees clockwise",
        ),
    ],
)
def test_a_doubt_about_the_lungs_is_a_sentence(shape, sentence):
    report = judge(FRONTAL, shape, (2000, 2000))
    assert any(sentence in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("aspect", "cut", "missing"),
    [
        (1.6, (0.95, 0.0, 0.0, 0.0), True),
        (1.6, (0.0, 0.95, 0.0, 0.0), False),
        (1.4, (0.95, 0.0, 0.0, 0.0), False),
        (1.1, (0.0, 0.95, 0.95, 0.0), True),
    ],
)
def test_lungs_that_are_cut_at_two_edges_or_low_at_one_are_incomplete(aspect, cut, missing):
    report = judge(
        FRONTAL, LungShape(SOUND.box, SOUND.areas, SOUND.heights, aspect, NO_CONTACT, cut), (900, 900)
    )
    assert report.accepted != missing
    assert ("A part of the lungs seems to be missing." in report.warnings) == missing
    assert ("looks like: a frontal chest radiograph, but no complete one" in report.warnings[-1]) == missing


def test_a_small_radiograph_and_a_mirrored_heart_are_warned_about():
    report = judge(FRONTAL, SOUND, (128, 200), view="PA", mirrored=0.99)
    assert report.accepted
    assert any("200 x 128 pixels" in w for w in report.warnings)
    words = next(w for w in report.warnings if "left and right may be exchanged" in w)
    assert "no side marker was read" in words
    assert "dextrocardia" in words


def test_a_stated_lateral_view_is_refused_whatever_the_picture_looks_like():
    report = judge(FRONTAL, SOUND, (2000, 2000), view="LL")
    assert not report.accepted
    assert any("view position LL" in w for w in report.warnings)


def test_an_unsure_radiograph_passes_with_a_warning():
    report = judge(np.array([0.6, 0.3, 0.1]), SOUND, (2000, 2000))
    assert report.accepted
    assert "not certain" in report.warnings[-1]


def test_lungs_cut_off_by_the_radiographs_edge_are_refused():
    report = judge(
        FRONTAL, LungShape((20, 20, 100, 108), (0.17, 0.16), (1.0, 0.9), 1.1, (0, 0, 0.7, 0)), (900, 900)
    )
    assert not report.accepted
    assert "The lungs are cut off at the radiograph's bottom." in report.warnings


@pytest.mark.parametrize("view", ["OBLIQUE", "LAO", "RPO", "DECUBITUS", "LLD"])
def test_obliques_and_decubitus_are_no_upright_frontal_views(view):
    assert not judge(FRONTAL, SOUND, (2000, 2000), view=view).accepted


def test_a_mirrored_heart_against_the_header_is_said_to_be():
    report = judge(FRONTAL, SOUND, (2000, 2000), mirrored=0.99, sides="PatientOrientation R\\F")
    words = next(w for w in report.warnings if "left and right may be exchanged" in w)
    assert "by the PatientOrientation R\\F: the header is wrong" in words
    assert "no side marker was read" in words


def unsure(probability: float) -> np.ndarray:
    return np.array([probability, 1 - probability, 0.0])


@pytest.mark.parametrize(
    ("probability", "room", "accepted"), [(0.9, 0.3, False), (0.9, 0.5, True), (0.95, 0.3, True)]
)
def test_lungs_that_fill_an_unsure_radiograph_are_incomplete(probability, room, accepted):
    report = judge(unsure(probability), replace(SOUND, room=room), (900, 900))
    assert report.accepted == accepted
    assert (
        "The lungs fill the radiograph; a part of them seems to be missing." in report.warnings
    ) != accepted


@pytest.mark.parametrize("between", [Mediastinum(0.1, 0.3), Mediastinum(0.0, 0.05)])
@pytest.mark.parametrize(("probability", "accepted"), [(0.94, False), (0.99, True)])
def test_a_mediastinum_off_the_middle_is_warned_of_and_refused_where_the_network_is_unsure(
    between, probability, accepted
):
    report = judge(unsure(probability), replace(SOUND, mediastinum=between), (900, 900))
    assert report.accepted == accepted
    assert any("turned to the side (an oblique), or the mediastinum is shifted" in w for w in report.warnings)


def test_a_mediastinum_in_the_middle_is_not_warned_of():
    assert judge(unsure(0.94), replace(SOUND, mediastinum=Mediastinum(0.03, 0.2)), (900, 900)).warnings == ()


def test_several_edges_that_may_be_cut_are_doubted_together():
    report = judge(FRONTAL, replace(SOUND, cut=(0.6, 0.5, 0.1, 0.6)), (900, 900))
    assert report.accepted
    assert report.warnings == ("The lungs seem to be cut off at several edges, or to end right at them.",)
