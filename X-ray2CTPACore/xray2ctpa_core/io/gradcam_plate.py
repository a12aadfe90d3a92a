"""Grad-CAM plates: one patient's axial slices on a sheet, with the classifier's evidence in colour."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from xray2ctpa_core.constants import CTPA_DISPLAY_WINDOW, SYNTHETIC
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.preview import (
    ACCENT,
    BACKGROUND,
    CELL,
    GAP,
    HEADER,
    MARGIN,
    MUTED,
    TEXT,
    plane_tile,
    strongest_index,
    text_font,
    write_legend,
)
from xray2ctpa_core.volume import Volume

COLUMNS = 4


def render_gradcam_plate(ctpa: Volume, gradcam: Volume, title: str, slices: int = 8) -> Image.Image:
    """Evenly spread axial slices of the volume, and the slice with the strongest evidence, superior first.

    Every slice is marked with the word SYNTHETIC and its number.

    Args:
        ctpa: generated volume, HU, axial (i to the left, j to posterior, k to superior).
        gradcam: 0..1, on the grid of ``ctpa``.
        title: of the sheet: patient and arm.
        slices: at least 1; no more than the volume has.

    Returns:
        RGB image, COLUMNS cells wide.
    """
    if gradcam.array.shape != ctpa.array.shape or slices < 1:
        raise InputError(
            f"Expected a map of shape {ctpa.array.shape} and at least one slice, got {gradcam.array.shape} "
            f"and {slices}."
        )
    chosen = plate_slices(gradcam.array, slices)
    rows = -(-len(chosen) // COLUMNS)
    width = 2 * MARGIN + COLUMNS * CELL + (COLUMNS - 1) * GAP
    picture = Image.new("RGB", (width, HEADER + rows * (CELL + GAP) + 2 * MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 10), title, TEXT, text_font(22))
    draw.text((MARGIN, 38), f"{SYNTHETIC} CTPA with the classifier's Grad-CAM", ACCENT, text_font(16))
    for number, k in enumerate(chosen):
        tile = plane_tile(ctpa, "axial", (k, 0, 0), CTPA_DISPLAY_WINDOW, gradcam)
        text = f"slice {k + 1} of {len(ctpa.array)}"
        pen = ImageDraw.Draw(tile)
        left = CELL - 8 - round(pen.textlength(text, text_font(14)))
        pen.text((left, 8), text, MUTED, text_font(14), stroke_width=2, stroke_fill=(0, 0, 0))
        place = (MARGIN + number % COLUMNS * (CELL + GAP), HEADER + number // COLUMNS * (CELL + GAP))
        picture.paste(tile, place)
    note = "Superior first. Evidence for PE by Grad-CAM:"
    foot = picture.height - MARGIN - 14
    draw.text((MARGIN, foot), note, MUTED, text_font(14))
    write_legend(draw, (MARGIN + round(draw.textlength(note, text_font(14))) + 10, foot))
    return picture


def plate_slices(gradcam: np.ndarray, count: int) -> Sequence[int]:
    """Evenly spread slices of (D, H, W), the nearest replaced by the strongest one, superior first."""
    depth = len(gradcam)
    chosen = sorted({round(k) for k in np.linspace(0, depth - 1, min(count, depth) + 2)[1:-1]})
    strongest = strongest_index(gradcam)[0]
    chosen[int(np.argmin([abs(k - strongest) for k in chosen]))] = strongest
    return sorted(set(chosen), reverse=True)
