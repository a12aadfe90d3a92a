"""What a reader of one file form hands over, before greys and pixels are brought to one scale."""

from dataclasses import dataclass

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.greys import luminance

#: Shortest side in pixels with which a chest can still be recognised.
MIN_SIDE = 64
#: Most pixels that are decoded; the largest detectors have about 20 million.
MAX_PIXELS = 50_000_000
#: A radiograph's longer side in mm; a spacing that makes it shorter or longer is a placeholder.
PLAUSIBLE_LONGER_SIDE_MM = (80.0, 800.0)
#: Pixels further from square than this are a broken header, not a detector.
MAX_ASPECT = 4.0


@dataclass(frozen=True)
class RawRadiograph:
    """A radiograph in the orientation of a Radiograph, with the greys that the file holds.

    Attributes:
        values: (H, W), any real dtype and scale, bright = attenuating; rows superior to inferior,
            columns from the patient's right to the patient's left.
        padding: (H, W) bool, True where the file says that nothing was exposed, or None.
        spacing_mm: (row, column) as the file states it, pixels not necessarily square, or None.
        spacing_source: "PixelSpacing", "ImagerPixelSpacing", "header" or "unknown".
        magnification, magnification_source: as in Radiograph.
        aspect: height of a pixel over its width.
        modality, photometric, view: as in Radiograph.
        steps: how the greys were found, in the order of what was done to the stored values.
        age_years, sides: as in Radiograph.
        notes: what reading changed or doubted, in sentences.
    """

    values: np.ndarray
    padding: np.ndarray | None = None
    spacing_mm: tuple[float, float] | None = None
    spacing_source: str = "unknown"
    magnification: float | None = None
    magnification_source: str = ""
    aspect: float = 1.0
    modality: str = "unknown"
    photometric: str = "unknown"
    view: str = "unknown"
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    age_years: float | None = None
    sides: str = ""


def size_doubt(shape: tuple[int, int], spacing_mm: tuple[float, float], source: str) -> str:
    """Why pixels of (row, column) mm cannot be those of a radiograph of ``shape``, "" where they can."""
    longer = max(n * mm for n, mm in zip(shape, spacing_mm, strict=True))
    low, high = PLAUSIBLE_LONGER_SIDE_MM
    if low <= longer <= high and 1 / MAX_ASPECT <= spacing_mm[0] / spacing_mm[1] <= MAX_ASPECT:
        return ""
    return (
        f"The {source} of {spacing_mm[0]:g} x {spacing_mm[1]:g} mm would make the radiograph {longer:.0f} mm "
        "long; it was ignored."
    )


def check_dimensions(rows: int, columns: int, name: str) -> None:
    """Raises InputError where ``rows`` x ``columns`` pixels are too few or too many to read.

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


def radiograph_of_channels(
    channels: np.ndarray, full_scale: float, premultiplied: bool = False
) -> RawRadiograph:
    """The radiograph in a colour image; what is transparent is black and counts as unexposed.

    Args:
        channels: (H, W, C) with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        full_scale: value of the brightest, and of an opaque, channel (255 or 65535).
        premultiplied: whether the greys have been multiplied by alpha already.
    """
    colour, alpha = (
        (channels, None) if channels.shape[2] in (1, 3) else (channels[..., :-1], channels[..., -1])
    )
    notes: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    values: np.ndarray
    if colour.shape[2] == 1:
        exact = np.float32 if colour.dtype.itemsize <= 2 or colour.dtype == np.float32 else np.float64
        values = colour[..., 0].astype(exact)
    else:
        values, notes = luminance(colour, full_scale)
        steps = ("luminance",)
    if alpha is None or (alpha == full_scale).all():
        return RawRadiograph(values, steps=steps, notes=notes)
    if not alpha.any():
        return RawRadiograph(
            values,
            steps=steps,
            notes=(*notes, "Every pixel is marked transparent; the alpha channel was ignored."),
        )
    notes = (*notes, "Transparent pixels were taken as unexposed.")
    if not premultiplied:
        values = values * (alpha.astype(np.float32) / full_scale)
    return RawRadiograph(values, padding=alpha == 0, steps=(*steps, "transparency left out"), notes=notes)
