"""Side markers: L and R beside the lungs are read in typefaces that no template has, and nothing else is."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.preprocessing.side_marker import SideMarker, read_side_marker

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
#: (column, row) of markers beside the neck, as shares of the image.
LEFT, RIGHT = (0.08, 0.07), (0.88, 0.07)
#: Of the lungs in the sample, as shares of its side.
LUNGS = (0.2, 0.2, 0.8, 0.8)


def radiograph(
    text: str = "",
    place: tuple[float, float] = RIGHT,
    font: str = "DejaVuSans-Bold.ttf",
    side: int = 1024,
    height: float = 0.035,
    plate: bool = False,
    degrees: float = 0.0,
) -> np.ndarray:
    """(side, side) in [0, 1]: the sample with ``text`` drawn into it, white, or black on a white plate."""
    image = Image.open(SAMPLE_CXR).convert("F").resize((side, side))
    image = Image.fromarray(np.asarray(image) / np.asarray(image).max() * 0.8)
    if text:
        face = ImageFont.truetype(str(FONTS / font), round(height * side / 0.73))
        ink = Image.new("L", image.size)
        at = round(place[0] * side), round(place[1] * side)
        ImageDraw.Draw(ink).text(at, text, fill=255, font=face, anchor="mm")
        if degrees:
            ink = ink.rotate(degrees, Image.Resampling.BILINEAR, center=at)
        if plate:
            half = round(height * side)
            ImageDraw.Draw(image).rectangle((at[0] - half, at[1] - half, at[0] + half, at[1] + half), 1.0)
        image.paste(0.1 if plate else 1.0, mask=ink)
    return np.asarray(image)


def read(pixels: np.ndarray) -> SideMarker | None:
    side = len(pixels)
    return read_side_marker(pixels, tuple(side * share for share in LUNGS))


@pytest.mark.parametrize("font", ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf"])
@pytest.mark.parametrize(("letter", "place"), [("L", RIGHT), ("R", LEFT), ("R", RIGHT), ("L", LEFT)])
def test_a_letter_is_read_with_its_side(letter: str, place: tuple[float, float], font: str) -> None:
    marker = read(radiograph(letter, place, font))

    assert marker is not None
    assert (marker.letter, marker.mirrored, marker.on_left) == (letter, False, place == LEFT)
    assert (marker.column, marker.row) == pytest.approx((1024 * place[0], 1024 * place[1]), abs=4)
    assert marker.height == pytest.approx(36, abs=4)


@pytest.mark.parametrize("letter", ["L", "R"])
def test_a_mirrored_radiograph_has_its_letter_backwards_on_the_other_side(letter: str) -> None:
    marker = read(np.ascontiguousarray(radiograph(letter, LEFT if letter == "R" else RIGHT)[:, ::-1]))

    assert marker is not None
    assert (marker.letter, marker.mirrored, marker.as_expected) == (letter, True, False)


@pytest.mark.parametrize("changes", [{"plate": True}, {"degrees": 10.0}, {"side": 512}, {"side": 2500}])
def test_plates_tilts_and_sizes_do_not_matter(changes: dict) -> None:
    marker = read(radiograph("L", **changes))

    assert marker is not None
    assert (marker.letter, marker.mirrored, marker.as_expected) == ("L", False, True)


#: Letters, digits, signs and words that are no side marker, drawn beside the lungs on three radiographs.
OTHERS = [*"ABCDEFGHIJKMNOPQSTUVWXYZ0123456789bdehkpq+", "PORTABLE", "AP"]


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("mirrored", [False, True])
def test_other_letters_words_and_signs_are_no_side_marker(part: int, mirrored: bool) -> None:
    texts = OTHERS[part::3]
    places = [(column, 0.06 + 0.115 * row) for column in (0.08, 0.91) for row in range(8)]
    pixels = radiograph()
    for text, place in zip(texts, places, strict=False):
        pixels = np.maximum(pixels, radiograph(text, place))
    assert len(texts) <= len(places)

    assert read(np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels) is None


def test_a_letter_over_the_lungs_or_the_spine_is_no_side_marker() -> None:
    assert read(radiograph("L", (0.5, 0.1))) is None


def test_markers_that_contradict_each_other_are_left_out() -> None:
    both = np.maximum(radiograph("L", RIGHT), radiograph("L", LEFT))
    agreeing = np.maximum(radiograph("L", RIGHT), radiograph("R", LEFT))

    assert read(both) is None
    marker = read(agreeing)
    assert marker is not None
    assert marker.as_expected


def test_a_radiograph_without_letters_has_no_marker_with_or_without_lungs() -> None:
    assert read(radiograph()) is None
    assert read_side_marker(radiograph()) is None
    assert read_side_marker(np.zeros((64, 200), np.float32)) is None
