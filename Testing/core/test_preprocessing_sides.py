"""What side marker and heart say together: a warning in plain words where left and right may be exchanged."""

import pytest

from xray2ctpa_core.preprocessing.side_marker import SideMarker
from xray2ctpa_core.preprocessing.sides import marker_sentence, side_doubts

HEART_LEFT, HEART_UNCLEAR, HEART_RIGHT = 0.02, 0.5, 0.97


def marker(letter: str, on_left: bool, mirrored: bool = False) -> SideMarker:
    return SideMarker(letter, mirrored, on_left, 50.0, 50.0, 20.0, 0.95)


R_RIGHTLY, L_RIGHTLY = marker("R", on_left=True), marker("L", on_left=False)
R_WRONGLY, L_WRONGLY = marker("R", on_left=False), marker("L", on_left=True)
L_BACKWARDS, L_BACKWARDS_WRONGLY = (marker("L", on_left, mirrored=True) for on_left in (False, True))


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (None, "none was read with certainty (an L or R; other letters, as D and G, are not read)"),
        (R_RIGHTLY, "R on the image's left, as expected"),
        (L_WRONGLY, "L on the image's left, where the patient's right is expected"),
        (R_WRONGLY, "R on the image's right, where the patient's left is expected"),
        (L_BACKWARDS, "L on the image's right, as expected, written backwards"),
    ],
)
def test_a_marker_is_one_line(read: SideMarker | None, sentence: str) -> None:
    assert marker_sentence(read) == sentence


@pytest.mark.parametrize(
    ("read", "heart"),
    [
        (None, HEART_LEFT),
        (None, HEART_UNCLEAR),
        (R_RIGHTLY, HEART_LEFT),
        (L_RIGHTLY, HEART_UNCLEAR),
        (L_BACKWARDS, HEART_LEFT),
    ],
)
def test_nothing_is_said_where_nothing_speaks_for_a_mirrored_radiograph(read, heart: float) -> None:
    assert side_doubts(read, heart) == []


@pytest.mark.parametrize(
    ("read", "heart", "parts"),
    [
        (
            L_BACKWARDS_WRONGLY,
            HEART_RIGHT,
            ("and the heart seems to lie on the image's left: the radiograph is mirrored.",),
        ),
        (L_BACKWARDS_WRONGLY, HEART_UNCLEAR, ("written backwards: the radiograph is mirrored.",)),
        (
            L_BACKWARDS_WRONGLY,
            HEART_LEFT,
            ("but the heart seems to lie on the image's right", "dextrocardia"),
        ),
        (R_WRONGLY, HEART_RIGHT, ("R on the image's right", "mirrored before it was marked")),
        (R_WRONGLY, HEART_LEFT, ("but the heart seems", "the marker is wrong", "dextrocardia")),
        (R_WRONGLY, HEART_UNCLEAR, ("AP and PA mistaken",)),
        (L_RIGHTLY, HEART_RIGHT, ("L on the image's right, as expected, but the heart", "dextrocardia")),
        (L_BACKWARDS, HEART_RIGHT, ("written backwards, but the heart", "lay back to front")),
        (L_BACKWARDS, HEART_UNCLEAR, ("lay back to front, or the radiograph is mirrored",)),
        (None, HEART_RIGHT, ("The heart seems to lie on the patient's right", "no side marker was read")),
    ],
)
def test_a_doubt_names_the_marker_the_heart_and_what_may_be(read, heart: float, parts: tuple) -> None:
    (sentence,) = side_doubts(read, heart)

    for part in parts:
        assert part in sentence
    assert read is None or sentence.endswith("Nothing was turned; compare left and right.")


def test_a_header_that_contradicts_the_marker_is_named() -> None:
    (sentence,) = side_doubts(R_WRONGLY, HEART_RIGHT, "PatientOrientation L\\F")
    (by_heart,) = side_doubts(None, HEART_RIGHT, "PatientOrientation L\\F")

    assert "The PatientOrientation L\\F says otherwise; one of them is wrong." in sentence
    assert "by the PatientOrientation L\\F: the header is wrong" in by_heart
