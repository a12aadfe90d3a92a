"""Reads the side marker of a radiograph: the letter L or R, of lead or drawn, beside the lungs.

Connected bright or dark regions of a letter's size are compared with letters and digits of one typeface in
several weights, as they are and mirrored; what is not clearly an L or R alone is left out.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter1d

from xray2ctpa_core.preprocessing.regions import regions_of, relief

#: Side in pixels to which a radiograph is brought, and the side of the square within which a letter is looked
#: for: what is wider in both directions is background.
_SIDE, _BACKGROUND = 1024, 27
#: Contrast with the background, of greys in [0, 1], from which a pixel may belong to a letter.
_CONTRASTS = (0.07, 0.13, 0.22, 0.36, 0.55)
#: Least and largest height of a letter in pixels, of width over height, and of the share that ink covers.
_HEIGHTS, _ASPECTS, _INK = (15, 90), (0.38, 1.1), (0.15, 0.75)
#: Grid (rows, columns) on which shapes are compared, and the height in pixels and strokes of the templates.
_GRID, _TEMPLATE_HEIGHT, _STROKES = (24, 18), 60, (0, 2, 5, 8)
_SMOOTHING, _SLANTS = 0.8, (0.0, 0.25)
_LETTERS, _OTHERS = "LR", "ABCDEFGHIJKMNOPQSTUVWXYZ0123456789"
#: Lines of an R, from its upper left (0, 0) to its lower right (1, 1): its body, and three kinds of leg.
_BODY_OF_R = (
    (0, 1), (0, 0), (0.6, 0), (0.8, 0.04), (0.93, 0.14), (0.96, 0.26), (0.93, 0.38), (0.8, 0.48), (0.6, 0.52),
    (0, 0.52),
)  # fmt: skip
_LEGS_OF_R = (
    ((0.5, 0.52), (1, 1)),
    ((0.65, 0.52), (0.85, 0.6), (0.93, 0.75), (0.97, 1)),
    ((0.55, 0.52), (0.75, 0.58), (0.86, 0.67), (1.2, 1)),
)
#: Angles in degrees by which a marker may be turned.
_TILTS = (0.0, -12.0, 12.0, -24.0, 24.0)
#: Least correlation with a template, and least distance to every other letter and to the mirrored one. Of 370
#: real radiographs (180 of NIH, 190 published ones) 127 markers were read; looked at one by one, every letter
#: and whether it is mirrored was right. Of the published ones 74 have a lone L or R, of which 56 were read.
#: The recipe gate prints how many are read on accepted radiographs, and those on the other side.
SURE, DISTINCT, DISTINCT_FROM_MIRRORED = 0.85, 0.1, 0.25
#: A shape is worth turning from this correlation with a letter on.
_WORTH_TURNING = 0.55
#: Distance to the middle of the lungs, in widths of their box, that a marker keeps.
_BESIDE = 0.3
#: A neighbour in the line at less than this many heights, and of this height at least, makes a letter part of
#: a word.
_WORD_GAP, _WORD_HEIGHT = 0.9, 0.55


@dataclass(frozen=True)
class SideMarker:
    """A side marker as read.

    Attributes:
        letter: "L" or "R".
        mirrored: whether it is written backwards.
        on_left: whether it lies on the image's left, where a radiograph shows the patient's right.
        row, column: its middle in pixels of the radiograph.
        height: in the same pixels.
        score: correlation with the best template, 0..1.
    """

    letter: str
    mirrored: bool
    on_left: bool
    row: float
    column: float
    height: float
    score: float

    @property
    def as_expected(self) -> bool:
        """Whether it lies where the radiograph shows the side that it names."""
        return self.on_left == (self.letter == "R")


def read_side_marker(
    pixels: np.ndarray, lungs: tuple[float, float, float, float] | None = None
) -> SideMarker | None:
    """The side marker of a radiograph, None where none is read with certainty or several contradict.

    Args:
        pixels: (H, W) in [0, 1], upright.
        lungs: (top, left, bottom, right) of the lungs' box in pixels; the middle half of the image if None.
    """
    height, width = pixels.shape
    scale = _SIDE / max(height, width)
    left, right = (width / 4, 3 * width / 4) if lungs is None else lungs[1::2]
    middle, beside = (left + right) / 2, _BESIDE * (right - left)
    shapes = []
    for corners, ink in _shapes(_resized(pixels, scale)):
        row, column = (corners[:2] + corners[2:]) / 2 / scale
        if abs(column - middle) >= beside:
            place = int(row * scale) // _HEIGHTS[0], int(column * scale) // _HEIGHTS[0]
            shapes.append(_Shape(float(row), float(column), ink, place))
    found: dict[tuple[str, bool, int, int], list[SideMarker]] = {}
    for shape, (letter, mirrored, score) in _letters(shapes):
        row, column, tall = shape.row, shape.column, shape.ink.shape[0] / scale
        marker = SideMarker(letter, mirrored, column < middle, row, column, tall, score)
        found.setdefault((letter, mirrored, *shape.place), []).append(marker)
    sure = [max(group, key=lambda m: m.score) for group in found.values() if len(group) >= 2]
    if len({(m.as_expected, m.mirrored) for m in sure}) != 1:
        return None
    return max(sure, key=lambda m: m.score)


def _resized(pixels: np.ndarray, scale: float) -> np.ndarray:
    height, width = pixels.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return np.ascontiguousarray(pixels, np.float32)
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels.astype(np.float32)).resize(size, method))


def _shapes(image: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Regions of a letter's size that stand alone: their corners (top, left, bottom, right), and their ink
    (bool) in that box."""
    for bright in (True, False):
        rise = relief(image, _BACKGROUND, bright).ravel()
        pixels = np.flatnonzero(rise > _CONTRASTS[0])
        rise = rise[pixels]
        for contrast in _CONTRASTS:
            above = pixels[rise > contrast]
            if not above.size:
                break
            regions = regions_of(above, image.shape[1])
            top, left, bottom, right = regions.corners.T
            tall, wide = bottom - top, right - left
            ink = regions.areas / (tall * wide)
            fits = (tall >= _HEIGHTS[0]) & (tall <= _HEIGHTS[1]) & (ink > _INK[0]) & (ink < _INK[1])
            fits &= (wide >= _ASPECTS[0] * tall) & (wide <= _ASPECTS[1] * tall)
            for index in np.flatnonzero(fits).tolist():
                if not _in_a_word(regions.corners, index):
                    yield regions.corners[index], regions.ink(index)


def _in_a_word(corners: np.ndarray, index: int) -> bool:
    """Whether a region has a neighbour of a letter's height in its line; it is none itself, for its gap to
    itself is its width, negative."""
    top, left, bottom, right = corners[index]
    tall = bottom - top
    tops, lefts, bottoms, rights = corners.T
    heights = bottoms - tops
    overlap = np.minimum(bottoms, bottom) - np.maximum(tops, top)
    gap = np.maximum(lefts - right, left - rights)
    near = (gap > -tall / 4) & (gap < _WORD_GAP * tall) & (overlap > tall / 2)
    return bool(np.any(near & (heights > _WORD_HEIGHT * tall) & (heights < tall / _WORD_HEIGHT)))


@dataclass(frozen=True)
class _Shape:
    """A region that may be a letter: its middle in pixels of the radiograph, its ink, and the cell that its
    middle lies in."""

    row: float
    column: float
    ink: np.ndarray
    place: tuple[int, int]


def _letters(shapes: list[_Shape]) -> Iterator[tuple[_Shape, tuple[str, bool, float]]]:
    """The shapes that are clearly one of _LETTERS, each with letter, whether it is mirrored, and correlation.

    Shapes without another at their place are left out, for a marker needs two.
    """
    templates, letters, _ = _templates()
    shapes = _with_another(shapes)
    if not shapes:
        return
    sides = templates[np.isin(letters, list(_LETTERS))]
    worth = (_described([shape.ink for shape in shapes]) @ sides.T).max(axis=1) >= _WORTH_TURNING
    for shape in _with_another([shape for shape, is_worth in zip(shapes, worth, strict=True) if is_worth]):
        scores = _described([_turned(shape.ink, tilt) for tilt in _TILTS]) @ templates.T
        read = _letter(scores[np.argmax(scores.max(axis=1))])
        if read is not None:
            yield shape, read


def _with_another(shapes: list[_Shape]) -> list[_Shape]:
    number = Counter(shape.place for shape in shapes)
    return [shape for shape in shapes if number[shape.place] > 1]


def _letter(scores: np.ndarray) -> tuple[str, bool, float] | None:
    """Letter, whether it is mirrored, and correlation; None if the correlations (N,) with the templates are
    not clearly those of one of _LETTERS."""
    _, letters, mirrored = _templates()
    first = int(np.argmax(scores))
    is_letter, is_side = letters == letters[first], mirrored == mirrored[first]
    if letters[first] not in _LETTERS or scores[first] < SURE:
        return None
    if scores[first] - scores[~is_letter].max() < DISTINCT:
        return None
    if scores[first] - scores[is_letter & ~is_side].max() < DISTINCT_FROM_MIRRORED:
        return None
    return str(letters[first]), bool(mirrored[first]), float(scores[first])


@functools.cache
def _templates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, cells) described shapes, (N,) their letters, and (N,) whether they are mirrored."""
    shapes, letters, mirrored = [], [], []
    for letter, image in _drawings():
        for slant in _SLANTS:
            ink = _cropped(np.asarray(_slanted(image, slant)) > 127)
            for backwards in (False, True):
                shapes.append(ink[:, ::-1] if backwards else ink)
                letters.append(letter)
                mirrored.append(backwards)
    return _described(shapes), np.array(letters), np.array(mirrored)


def _drawings() -> Iterator[tuple[str, Image.Image]]:
    """Letters and digits of Pillow's typeface in several weights, and R with other legs than it has there."""
    side = 3 * _TEMPLATE_HEIGHT
    font = ImageFont.load_default(_TEMPLATE_HEIGHT)
    for letter in _LETTERS + _OTHERS:
        for stroke in _STROKES:
            image = Image.new("L", (side, side))
            place = _TEMPLATE_HEIGHT, _TEMPLATE_HEIGHT
            ImageDraw.Draw(image).text(place, letter, fill=255, font=font, stroke_width=stroke)
            yield letter, image
    for leg in _LEGS_OF_R:
        for stroke in _STROKES:
            image = Image.new("L", (side, side))
            for line in (_BODY_OF_R, leg):
                points = [(_TEMPLATE_HEIGHT * (1 + 0.7 * x), _TEMPLATE_HEIGHT * (1 + y)) for x, y in line]
                ImageDraw.Draw(image).line(points, fill=255, width=7 + stroke, joint="curve")
            yield "R", image


def _slanted(image: Image.Image, slant: float) -> Image.Image:
    """``image`` in italics: its upper edge is moved to the right by ``slant`` of its height."""
    return image.transform(image.size, Image.Transform.AFFINE, (1, slant, -slant * image.height / 2, 0, 1, 0))


def _described(inks: Sequence[np.ndarray]) -> np.ndarray:
    """(N, cells) float32, each of unit length and zero mean: inks (bool) on the grid, smoothed."""
    rows, columns = (gaussian_filter1d(np.eye(side, dtype=np.float32), _SMOOTHING, axis=0) for side in _GRID)
    cells = (rows @ np.array([_on_grid(ink) for ink in inks]) @ columns.T).reshape(len(inks), -1)
    cells -= cells.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(cells, axis=1, keepdims=True)
    return cells / np.where(lengths > 0, lengths, 1)


def _on_grid(ink: np.ndarray) -> np.ndarray:
    small = ink.shape[0] < _GRID[0] or ink.shape[1] < _GRID[1]
    method = Image.Resampling.BILINEAR if small else Image.Resampling.BOX
    return np.asarray(_image(ink).resize(_GRID[::-1], method), np.float32)


def _image(ink: np.ndarray) -> Image.Image:
    return Image.fromarray(ink.view(np.uint8) * np.uint8(255))


def _turned(ink: np.ndarray, degrees: float) -> np.ndarray:
    if degrees == 0:
        return ink
    room = max(ink.shape) // 4 + 1
    large = np.zeros((ink.shape[0] + 2 * room, ink.shape[1] + 2 * room), bool)
    large[room:-room, room:-room] = ink
    turned = np.asarray(_image(large).rotate(degrees, Image.Resampling.BILINEAR)) > 127
    return _cropped(turned) if turned.any() else ink


def _cropped(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
