"""preview.png: every plane the right way round, in true proportions, marked SYNTHETIC and R/L."""

import numpy as np
import pytest
from PIL import Image

from xray2ctpa_core.constants import CTPA_DISPLAY_WINDOW
from xray2ctpa_core.io import preview
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume, axial_affine

SHAPE = (16, 20, 24)
#: Cubic voxels of 10 mm, so that planes fill a cell as 24:20, 24:16 and 20:16.
EXTENT = (160.0, 200.0, 240.0)
WINDOW = CTPA_DISPLAY_WINDOW


def volume(array: np.ndarray) -> Volume:
    return Volume(array, axial_affine(SHAPE, EXTENT))


def marked(k: slice, j: slice, i: slice) -> Volume:
    """Air with one bright block."""
    array = np.full(SHAPE, -1000.0)
    array[k, j, i] = 2000.0
    return volume(array)


def centre_of_brightness(tile: Image.Image) -> tuple[float, float]:
    """(row, column) of the white pixels, 0..1, labels aside (they are coloured or outlined letters)."""
    grey = np.asarray(tile.convert("RGB")).min(axis=2)
    block = grey[30:-30, 30:-30] > 240
    rows, columns = np.nonzero(block)
    return float(rows.mean() + 30) / preview.CELL, float(columns.mean() + 30) / preview.CELL


LEFT_POSTERIOR_SUPERIOR = (slice(12, 15), slice(15, 18), slice(18, 22))


@pytest.mark.parametrize(
    ("name", "below_the_middle", "right_of_the_middle"),
    [("axial", True, True), ("coronal", False, True), ("sagittal", False, True)],
)
def test_a_left_posterior_superior_block_is_drawn_where_radiologists_expect_it(
    name: str, below_the_middle: bool, right_of_the_middle: bool
) -> None:
    tile = preview.plane_tile(marked(*LEFT_POSTERIOR_SUPERIOR), name, (13, 16, 20), WINDOW)
    row, column = centre_of_brightness(tile)
    assert (row > 0.55) == below_the_middle
    assert (row < 0.45) != below_the_middle
    assert (column > 0.55) == right_of_the_middle


@pytest.mark.parametrize(("name", "height"), [("axial", 250), ("coronal", 200), ("sagittal", 240)])
def test_millimetres_keep_their_aspect(name: str, height: int) -> None:
    everything = marked(slice(None), slice(None), slice(None))
    tile = preview.plane_tile(everything, name, (8, 10, 12), WINDOW)
    column = np.asarray(tile)[:, preview.CELL // 2].min(axis=1)
    assert abs(int((column > 200).sum()) - height) <= 2


def test_the_overlay_colours_the_evidence_and_nothing_else() -> None:
    evidence = np.zeros(SHAPE, np.float32)
    evidence[8, 4:8, 4:8] = 1.0
    bare = np.asarray(preview.plane_tile(volume(np.zeros(SHAPE)), "axial", (8, 6, 6), WINDOW))
    heated = np.asarray(
        preview.plane_tile(volume(np.zeros(SHAPE)), "axial", (8, 6, 6), WINDOW, volume(evidence))
    )
    changed = np.abs(heated.astype(int) - bare).max(axis=2) > 8
    rows, columns = np.nonzero(changed)
    scale = preview.CELL / 24
    top = (preview.CELL - 20 * scale) / 2
    assert abs(rows.mean() - (top + 6 * scale)) < 3
    assert abs(columns.mean() - 6 * scale) < 3
    middle = heated[round(rows.mean()), round(columns.mean())]
    assert middle[0] > middle[1] + 40


def test_the_map_of_a_second_opinion_colours_the_radiograph_in_a_row_of_its_own() -> None:
    radiograph = Radiograph(np.full((80, 60), 0.5, np.float32))
    heat = np.zeros((40, 30), np.float32)
    heat[30:, :10] = 1.0  # inferior, on the patient's right
    air, nothing = volume(np.full(SHAPE, -1000.0)), volume(np.zeros(SHAPE))
    given = (radiograph, FrontalFrame(0.0, 0.0, 60.0), air, nothing, ["Score"])
    without, picture = preview.render_preview(*given), preview.render_preview(*given, heat)
    assert picture.height == without.height + preview.CELL + preview.GAP
    left = preview.MARGIN + preview.CXR_SIDE + 2 * preview.GAP + 26
    row = np.asarray(picture)[without.height : without.height + preview.CELL, left : left + preview.CELL]
    rows, columns = np.nonzero((row[..., 0] > row[..., 2] + 50.0)[: preview.CELL - 30, 30:-30])
    assert rows.min() / preview.CELL == pytest.approx(0.75, abs=0.03)
    assert (columns.max() + 30) / preview.CELL == pytest.approx(0.125 + 0.25, abs=0.03), "60 of 80, centred"


def test_long_sentences_make_the_picture_higher_rather_than_being_cut_off() -> None:
    air, nothing = volume(np.full(SHAPE, -1000.0)), volume(np.zeros(SHAPE))
    given = (Radiograph(np.zeros((80, 60), np.float32)), FrontalFrame(0.0, 0.0, 60.0), air, nothing)
    short = preview.render_preview(*given, ["Score"])
    long = preview.render_preview(*given, ["Score", *["A sentence."] * 20])
    assert long.height > short.height
    assert np.asarray(long)[-40 : -preview.GAP, : preview.CXR_SIDE].max() > 100, "the last sentence"


def test_every_generated_plane_says_synthetic() -> None:
    drawn: list[str] = []
    original = preview._label

    def noted(draw: object, place: object, text: str, colour: object) -> None:
        drawn.append(text)
        original(draw, place, text, colour)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "_label", noted)
        preview.render_preview(
            Radiograph(np.zeros((50, 40), np.float32)),
            FrontalFrame(5, 5, 30),
            volume(np.zeros(SHAPE)),
            volume(np.zeros(SHAPE, np.float32)),
            ["score"],
        )
    assert drawn.count("SYNTHETIC") == 9
    assert (drawn.count("R"), drawn.count("L")) == (7, 7)  # the radiograph, three axial, three coronal planes
    assert (drawn.count("A"), drawn.count("P")) == (3, 3)


@pytest.mark.parametrize(("strongest", "says"), [(0.9, "in colour:"), (0.2, "strong enough for a colour:")])
def test_the_note_says_whether_any_evidence_is_strong(
    strongest: float, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    original = preview.ImageDraw.ImageDraw.text

    def noted(draw: object, place: object, text: str, *rest: object, **more: object) -> None:
        written.append(text)
        original(draw, place, text, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(preview.ImageDraw.ImageDraw, "text", noted)
    radiograph, frame = Radiograph(np.zeros((50, 40), np.float32)), FrontalFrame(5, 5, 30)
    heat = np.zeros(SHAPE, np.float32)
    heat[8, 10, 12] = strongest
    preview.render_preview(radiograph, frame, volume(np.zeros(SHAPE)), volume(heat), ["score"])
    assert [text for text in written if text.endswith(says)]


@pytest.mark.parametrize("shape", [(100, 50), (50, 100), (64, 64)])
def test_the_whole_radiograph_is_shown_with_its_frame(shape: tuple[int, int]) -> None:
    tile = np.asarray(
        preview.radiograph_tile(Radiograph(np.ones(shape, np.float32)), FrontalFrame(-10, 5, 40), 200)
    )
    scale = 200 / max(shape)
    left, top = ((200 - n * scale) / 2 for n in (shape[1], shape[0]))
    assert tile.shape == (200, 200, 3)
    edge = np.all(tile == preview.FRAME_COLOUR, axis=2)
    bottom = round(top + 30 * scale)
    visible = slice(round(left + 10 * scale), round(left + 30 * scale))
    assert edge[bottom - 2 : bottom + 3, visible].any(axis=0).all()


def test_long_sentences_stay_in_their_column() -> None:
    lines = ["A score", "word " * 60]
    picture = preview.render_preview(
        Radiograph(np.zeros((50, 40), np.float32)),
        FrontalFrame(5, 5, 30),
        volume(np.zeros(SHAPE)),
        volume(np.zeros(SHAPE, np.float32)),
        lines,
    )
    pixels = np.asarray(picture)
    column = pixels[preview.HEADER + preview.CXR_SIDE + 30 :, : preview.MARGIN + preview.CXR_SIDE + 8]
    assert (column == preview.MUTED).all(axis=2).any()
    assert (column[:, -6:] == preview.BACKGROUND).all()


def test_the_live_view_holds_its_slices_side_by_side() -> None:
    slices = np.full((3, 20, 20), -1000.0)
    slices[2] = 2000.0
    strip = np.asarray(preview.render_step(slices))
    assert strip.shape == (160, 480, 3)
    assert strip[40:, :300].max() < 10
    assert strip[40:, 330:].min() > 245
