"""preview.png: the radiograph, three planes of the generated volume in two windows, Grad-CAM, the PE score.

Planes are drawn in radiological convention: the patient's right on the left of axial and coronal planes,
anterior on the left of sagittal ones, superior up; with square millimetres. Every generated plane is marked
SYNTHETIC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xray2ctpa_core.constants import (
    CTPA_DISPLAY_WINDOW,
    GRADCAM_LABEL_THRESHOLDS,
    LUNG_DISPLAY_WINDOW,
    PREVIEW_RADIOGRAPH,
    SYNTHETIC,
)
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume

BACKGROUND = (14, 17, 22)
PANEL = (26, 31, 39)
TEXT = (232, 236, 241)
MUTED = (150, 160, 172)
ACCENT = (255, 184, 77)
FRAME_COLOUR = (96, 190, 255)
#: Colours of Grad-CAM at its label thresholds and at 1; transparent below the first threshold.
HEAT_LEVELS = (*GRADCAM_LABEL_THRESHOLDS, 1.0)
HEAT_COLOURS = ((255, 196, 60), (245, 115, 30), (215, 30, 45), (150, 0, 60))
HEAT_OPACITY = 0.6
CELL = 300
GAP = 10
MARGIN, HEADER, CXR_SIDE = PREVIEW_RADIOGRAPH
#: Beside the map of a second opinion.
OPINION_NOTE = (
    "Grad-CAM of the second opinion: what in the radiograph speaks for PE, in the colours above. It is not a "
    "projection of the volume's Grad-CAM: the volume plays no part in it."
)
#: Width in pixels of the live view.
STEP_WIDTH = 480


@dataclass(frozen=True)
class Plane:
    """A plane as an image: ``pixels`` (rows, columns), their size in mm, letters at its edges."""

    pixels: np.ndarray
    row_mm: float
    column_mm: float
    left: str
    right: str
    name: str


def render_preview(
    radiograph: Radiograph,
    frame: FrontalFrame,
    ctpa: Volume,
    gradcam: Volume,
    lines: Sequence[str],
    opinion_map: np.ndarray | None = None,
) -> Image.Image:
    """The preview in a result folder.

    Args:
        radiograph: the input; ``frame`` is the square of it that the networks read.
        ctpa: generated volume, HU, axial (i to the left, j to posterior, k to superior).
        gradcam: 0..1, on the grid of ``ctpa``.
        lines: sentences about the result, the first drawn large; never a diagnosis.
        opinion_map: (h, w) in 0..1 on the whole radiograph, Grad-CAM of the second opinion; None for none.

    Returns:
        RGB image, about 1600 x 1060 pixels, and 310 more in height with ``opinion_map``.
    """
    grid_left = MARGIN + CXR_SIDE + 2 * GAP + 26
    width = grid_left + 3 * CELL + 2 * GAP + MARGIN
    grid_height = HEADER + 3 * CELL + 2 * GAP + MARGIN + 22
    place = MARGIN, HEADER + CXR_SIDE + 2 * GAP
    text_end = _write_lines(ImageDraw.Draw(Image.new("RGB", (1, 1))), lines, place, CXR_SIDE)
    height = max(grid_height + (0 if opinion_map is None else CELL + GAP), text_end + GAP)
    picture = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 18), "X-ray2CTPA", TEXT, text_font(28))
    draw.text((MARGIN + 190, 26), f"{SYNTHETIC} CTPA from one chest radiograph", ACCENT, text_font(19))
    picture.paste(radiograph_tile(radiograph, frame, CXR_SIDE), (MARGIN, HEADER))
    _write_lines(draw, lines, place, CXR_SIDE)
    rows = (
        ("CTPA window", CTPA_DISPLAY_WINDOW, centre_index(ctpa.array.shape), None),
        ("lung window", LUNG_DISPLAY_WINDOW, centre_index(ctpa.array.shape), None),
        ("Grad-CAM", CTPA_DISPLAY_WINDOW, strongest_index(gradcam.array), gradcam),
    )
    for row, (label, window, index, overlay) in enumerate(rows):
        top = HEADER + row * (CELL + GAP)
        _write_upright(picture, label, (grid_left - 28, top), CELL)
        for column, name in enumerate(("axial", "coronal", "sagittal")):
            tile = plane_tile(ctpa, name, index, window, overlay)
            picture.paste(tile, (grid_left + column * (CELL + GAP), top))
    note = "Upper rows: through the middle. Lower row: through the strongest Grad-CAM evidence, in colour:"
    if gradcam.array.max() < HEAT_LEVELS[0]:
        note = "All rows: through the middle. No Grad-CAM evidence is strong enough for a colour:"
    foot = grid_height - MARGIN - 14
    draw.text((grid_left, foot), note, MUTED, text_font(14))
    write_legend(draw, (grid_left + round(draw.textlength(note, text_font(14))) + 10, foot))
    if opinion_map is not None:
        top, right = grid_height, grid_left + CELL + GAP
        _write_upright(picture, "second opinion", (grid_left - 28, top), CELL)
        picture.paste(opinion_tile(radiograph, opinion_map), (grid_left, top))
        _write_lines(draw, ("", OPINION_NOTE), (right, top - 30), 2 * CELL)
        if opinion_map.max() < HEAT_LEVELS[0]:
            _write_lines(
                draw, ("", "No evidence for PE is strong enough for a colour."), (right, top + 40), 2 * CELL
            )
    return picture


def render_step(slices: np.ndarray) -> Image.Image:
    """The volume during generation, for a live view: axial slices side by side in the CTPA window.

    Args:
        slices: (N, H, W) HU, from inferior to superior.
    """
    centre, width = CTPA_DISPLAY_WINDOW
    grey = np.clip((np.concatenate(list(slices), axis=1) - centre) / width + 0.5, 0, 1) * 255
    strip = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    strip = strip.resize(
        (STEP_WIDTH, round(STEP_WIDTH * strip.height / strip.width)), Image.Resampling.BICUBIC
    )
    _label(ImageDraw.Draw(strip), (6, 6), SYNTHETIC, ACCENT)
    return strip


def radiograph_tile(radiograph: Radiograph, frame: FrontalFrame, side: int) -> Image.Image:
    """The whole radiograph in a square of ``side`` pixels, with the networks' frame drawn on it."""
    scale = side / max(radiograph.pixels.shape)
    tile = Image.new("RGB", (side, side), PANEL)
    grey, (left, top) = _fitted_radiograph(radiograph, side)
    tile.paste(grey, (left, top))
    draw = ImageDraw.Draw(tile)
    x, y, edge = (round(v * scale) for v in (frame.left, frame.top, frame.side))
    draw.rectangle((left + x, top + y, left + x + edge, top + y + edge), outline=FRAME_COLOUR, width=2)
    _label(draw, (8, 8), "input radiograph", TEXT)
    _label(draw, (8, side // 2 - 10), "R", ACCENT)
    _label(draw, (side - 24, side // 2 - 10), "L", ACCENT)
    _label(draw, (8, side - 28), "frame that the model read", FRAME_COLOUR)
    return tile


def opinion_tile(radiograph: Radiograph, opinion_map: np.ndarray) -> Image.Image:
    """The radiograph in a cell, under the colours of its own Grad-CAM, (h, w) on the whole of it."""
    grey, (left, top) = _fitted_radiograph(radiograph, CELL)
    evidence = Image.fromarray(opinion_map.astype(np.float32)).resize(grey.size, Image.Resampling.BILINEAR)
    tile = Image.new("RGB", (CELL, CELL), PANEL)
    tile.paste(heated(grey.convert("RGB"), np.asarray(evidence)), (left, top))
    draw = ImageDraw.Draw(tile)
    _label(draw, (6, 6), "input radiograph, Grad-CAM", TEXT)
    _label(draw, (6, CELL // 2 - 10), "R", ACCENT)
    _label(draw, (CELL - 22, CELL // 2 - 10), "L", ACCENT)
    return tile


def _fitted_radiograph(radiograph: Radiograph, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """The radiograph in grey, scaled to fit a square of ``side`` pixels, and its (left, top) there."""
    rows, columns = radiograph.pixels.shape
    scale = side / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    grey = Image.fromarray(np.clip(radiograph.pixels * 255, 0, 255).astype(np.uint8))
    return grey.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2)


def plane_tile(
    ctpa: Volume,
    name: str,
    index: tuple[int, int, int],
    window: tuple[float, float],
    overlay: Volume | None = None,
) -> Image.Image:
    """One plane of ``ctpa`` through voxel (k, j, i) in ``window`` (centre, width), CELL pixels wide."""
    plane = cut(ctpa, name, index)
    centre, width = window
    grey = np.clip((plane.pixels - (centre - width / 2)) / width * 255, 0, 255).astype(np.uint8)
    image = _fitted(Image.fromarray(grey), plane).convert("RGB")
    if overlay is not None:
        evidence = _fitted(Image.fromarray(cut(overlay, name, index).pixels.astype(np.float32)), plane)
        image = heated(image, np.asarray(evidence))
    tile = Image.new("RGB", (CELL, CELL), (0, 0, 0))
    tile.paste(image, ((CELL - image.width) // 2, (CELL - image.height) // 2))
    draw = ImageDraw.Draw(tile)
    _label(draw, (6, 6), plane.name, TEXT)
    _label(draw, (6, CELL // 2 - 10), plane.left, ACCENT)
    _label(draw, (CELL - 22, CELL // 2 - 10), plane.right, ACCENT)
    _label(draw, (6, CELL - 26), SYNTHETIC, ACCENT)
    return tile


def cut(volume: Volume, name: str, index: tuple[int, int, int]) -> Plane:
    """The "axial", "coronal" or "sagittal" plane through voxel ``index`` = (k, j, i), right side up."""
    k, j, i = index
    across, deep, high = volume.spacing
    if name == "axial":
        return Plane(volume.array[k], deep, across, "R", "L", name)
    if name == "coronal":
        return Plane(volume.array[::-1, j], high, across, "R", "L", name)
    return Plane(volume.array[::-1, :, i], high, deep, "A", "P", name)


def centre_index(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The middle voxel (k, j, i)."""
    return shape[0] // 2, shape[1] // 2, shape[2] // 2


def strongest_index(gradcam: np.ndarray) -> tuple[int, int, int]:
    """The voxel (k, j, i) of the strongest evidence; the middle if none reaches the lowest level."""
    if gradcam.max() < HEAT_LEVELS[0]:
        return centre_index(gradcam.shape)
    k, j, i = np.unravel_index(int(gradcam.argmax()), gradcam.shape)
    return int(k), int(j), int(i)


def _fitted(image: Image.Image, plane: Plane) -> Image.Image:
    """``image`` scaled to fit a cell with square millimetres."""
    height, width = plane.pixels.shape[0] * plane.row_mm, plane.pixels.shape[1] * plane.column_mm
    scale = CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


def heated(image: Image.Image, evidence: np.ndarray) -> Image.Image:
    """``image`` under HEAT_COLOURS where ``evidence`` (rows, columns) reaches HEAT_LEVELS[0]."""
    channels = np.array(HEAT_COLOURS, dtype=np.float32).T
    heat = np.stack([np.interp(evidence, HEAT_LEVELS, channel) for channel in channels], axis=-1)
    opacity = HEAT_OPACITY * np.clip((evidence - HEAT_LEVELS[0]) / 0.15, 0, 1)[..., None]
    mixed = np.asarray(image, dtype=np.float32) * (1 - opacity) + heat * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


def text_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all pictures, ``size`` pixels high."""
    return ImageFont.load_default(size)


def _label(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: tuple[int, int, int]
) -> None:
    """Text that stays readable on any grey."""
    draw.text(place, text, colour, text_font(16), stroke_width=2, stroke_fill=(0, 0, 0))


def _write_upright(picture: Image.Image, text: str, place: tuple[int, int], length: int) -> None:
    """Text that runs upwards, centred along ``length`` pixels from ``place``."""
    strip = Image.new("RGB", (length, 24), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    draw.text(((length - draw.textlength(text, text_font(16))) / 2, 2), text, MUTED, text_font(16))
    picture.paste(strip.rotate(90, expand=True), place)


def write_legend(draw: ImageDraw.ImageDraw, place: tuple[int, int]) -> None:
    """The colours of low, medium and high evidence."""
    left, top = place
    for name, colour in zip(("low", "medium", "high"), HEAT_COLOURS, strict=False):
        draw.rectangle((left, top + 3, left + 12, top + 15), fill=colour)
        draw.text((left + 18, top), name, MUTED, text_font(14))
        left += 32 + round(draw.textlength(name, text_font(14)))


def _write_lines(draw: ImageDraw.ImageDraw, lines: Sequence[str], place: tuple[int, int], width: int) -> int:
    """Sentences below each other, wrapped to ``width`` pixels; the first is large. Returns where they end."""
    left, top = place
    for number, line in enumerate(lines):
        font, colour = (text_font(22), TEXT) if number == 0 else (text_font(16), MUTED)
        step = 30 if number == 0 else 22
        for part in _wrapped(draw, line, font, width):
            draw.text((left, top), part, colour, font)
            top += step
        top += 8
    return top


def _wrapped(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    parts = [""]
    for word in text.split():
        longer = f"{parts[-1]} {word}".strip()
        if parts[-1] and draw.textlength(longer, font) > width:
            parts.append(word)
        else:
            parts[-1] = longer
    return parts
