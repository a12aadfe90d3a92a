"""Where the mediastinum lies between the lungs: of a patient turned about the body's axis (an oblique), off
their middle, or narrow."""

from dataclasses import dataclass

import numpy as np

#: Part of the lungs' height in which their inner borders are compared.
ROWS = (0.25, 0.75)


@dataclass(frozen=True)
class Mediastinum:
    """Place between the lungs' inner borders, in widths of both lungs' box.

    Attributes:
        off_middle: median distance of the middle between the borders from the box's middle.
        least_width: least distance between the borders, below 0 where they overlap.
    """

    off_middle: float
    least_width: float


def between_lungs(lungs: list[np.ndarray], box: tuple[float, float, float, float]) -> Mediastinum | None:
    """The mediastinum between two masks (H, W) bool, the lung on the image's left first; None where they have
    no row of the middle of their ``box`` (top, left, bottom, right) in common."""
    top, left, bottom, right = box
    first, last = (max(0, int(top + share * (bottom - top))) for share in ROWS)
    rows = slice(first, last)
    inner = [lungs[0][rows], lungs[1][rows]]
    seen = inner[0].any(axis=1) & inner[1].any(axis=1)
    if not seen.any():
        return None
    columns = lungs[0].shape[1]
    start = columns - 1 - inner[0][seen][:, ::-1].argmax(axis=1)
    end = inner[1][seen].argmax(axis=1)
    width = right - left
    off = abs(float(np.median((start + end) / 2)) - (left + right) / 2) / width
    return Mediastinum(off, float((end - start).min()) / width)
