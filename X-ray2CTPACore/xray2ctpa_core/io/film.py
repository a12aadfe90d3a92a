"""Film: what a reader of one file form hands over, before its greys and pixels are brought to one scale."""

from dataclasses import dataclass

import numpy as np

from xray2ctpa_core.errors import InputError

#: Shortest side in pixels with which a chest can still be recognised.
MIN_SIDE = 64
#: Most pixels that are decoded; the largest detectors have about 20 million.
MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Film:
    """A radiograph in the orientation of a Radiograph, with the greys that the file holds.

    Attributes:
        values: (H, W), any real dtype and scale, bright = attenuating; rows superior to inferior,
            columns from the patient's right to the patient's left.
        padding: (H, W) bool, True where the file says that no film is (padding, transparency), or None.
        spacing_mm: (row, column) as the file states it, pixels not necessarily square, or None.
        spacing_source: "PixelSpacing", "ImagerPixelSpacing", "header" or "unknown".
        aspect: height of a pixel over its width.
        modality, photometric, view: as in Radiograph.
        notes: what reading changed or doubted, in sentences.
    """

    values: np.ndarray
    padding: np.ndarray | None = None
    spacing_mm: tuple[float, float] | None = None
    spacing_source: str = "unknown"
    aspect: float = 1.0
    modality: str = "unknown"
    photometric: str = "unknown"
    view: str = "unknown"
    notes: tuple[str, ...] = ()


def check_film_size(rows: int, columns: int, name: str) -> None:
    """Raises InputError where a film of ``rows`` x ``columns`` pixels is too small or too large to read.

    Readers call it with the header's numbers, before anything is decoded.
    """
    if rows * columns > MAX_PIXELS:
        raise InputError(
            f"Expected at most {MAX_PIXELS // 1_000_000} million pixels, got {name} with {columns} x {rows}.",
            "Reduce the image; 2000 pixels a side are more than enough.",
        )
    if min(rows, columns) < MIN_SIDE:
        raise InputError(
            f"Expected at least {MIN_SIDE} pixels a side, got {name} with {columns} x {rows}.",
            "Give the radiograph itself, not a thumbnail.",
        )
