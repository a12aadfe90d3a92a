"""The gate's judgement from class probabilities and lung features."""

import numpy as np
import pytest

from xray2ctpa_core.preprocessing.gate import judge
from xray2ctpa_core.preprocessing.lung_box import LungShape

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
