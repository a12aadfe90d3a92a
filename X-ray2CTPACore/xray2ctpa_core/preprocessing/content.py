"""Finds the exposed part of a radiograph, without uniform borders and collimation edges."""

import numpy as np

from xray2ctpa_core.io.greys import outer_quantiles

#: Longest side in pixels at which borders are looked for; larger radiographs are read at a stride.
SEARCH_PIXELS = 512
#: A line is border if the spread of its inner 80 % is below this share of the radiograph's grey range ...
LINE_TOLERANCE = 0.03
LINE_QUANTILES = (0.1, 0.9)
#: ... and if at least this share of each side remains; otherwise nothing is stripped there.
LEAST_CONTENT = 0.3
#: Lines that are examined together.
_LINES = 8


def content_box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Box of a radiograph without the uniform lines along its four edges.

    Black or white padding, collimated margins and a viewer's frame are stripped, even if burned-in letters
    cover up to 10 % of a line.

    Args:
        pixels: (H, W) real, any range.

    Returns:
        (top, left, bottom, right) in pixels, bottom and right exclusive; the whole image if every line is
        uniform, or if stripping would leave less than LEAST_CONTENT of a side.
    """
    height, width = pixels.shape
    step = max(1, -(-max(height, width) // SEARCH_PIXELS))
    view = np.asarray(pixels[::step, ::step], dtype=np.float32)
    low, high = outer_quantiles(view, (0.005, 0.995))
    tolerance = LINE_TOLERANCE * (high - low)
    top, left, bottom, right = 0, 0, *view.shape
    for _ in range(2):
        first, last = _varied_span(view[:, left:right], tolerance)
        top, bottom = (first, last) if last - first >= LEAST_CONTENT * view.shape[0] else (0, view.shape[0])
        first, last = _varied_span(view[top:bottom].T, tolerance)
        left, right = (first, last) if last - first >= LEAST_CONTENT * view.shape[1] else (0, view.shape[1])
    return (
        _content_edge(top, step, height, view.shape[0]),
        _content_edge(left, step, width, view.shape[1]),
        _content_edge(bottom, step, height, view.shape[0]),
        _content_edge(right, step, width, view.shape[1]),
    )


def anatomy_edges(pixels: np.ndarray, box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    """(top, left, bottom, right) beyond which the radiograph shows no anatomy.

    An edge of the content ``box`` with a dark border (collimation, padding) is such an end. A bright border
    may be saturated anatomy, which may go on; the edge is then infinite.
    """
    top, left, bottom, right = box
    bright = float(pixels[top:bottom, left:right].mean())
    borders = (
        (top, -np.inf, pixels[:top, left:right]),
        (left, -np.inf, pixels[top:bottom, :left]),
        (bottom, np.inf, pixels[bottom:, left:right]),
        (right, np.inf, pixels[top:bottom, right:]),
    )
    ends = [beyond if b.size and b.mean() > bright else float(edge) for edge, beyond, b in borders]
    return ends[0], ends[1], ends[2], ends[3]


def _content_edge(index: int, step: int, length: int, view_length: int) -> int:
    """Pixel of the radiograph for an edge found in the strided view."""
    return length if index == view_length else min(index * step, length)


def _varied_span(lines: np.ndarray, tolerance: float) -> tuple[int, int]:
    """(first, past the last) line of ``lines`` (N, M) whose inner grey spread exceeds ``tolerance``."""
    first = _first_varied(lines, tolerance)
    return (
        (0, len(lines))
        if first is None
        else (first, len(lines) - (_first_varied(lines[::-1], tolerance) or 0))
    )


def _first_varied(lines: np.ndarray, tolerance: float) -> int | None:
    """Number of the first such line; None if every line is uniform."""
    for start in range(0, len(lines), _LINES):
        varied = np.flatnonzero(_inner_spread(lines[start : start + _LINES]) > tolerance)
        if varied.size:
            return start + int(varied[0])
    return None


def _inner_spread(lines: np.ndarray) -> np.ndarray:
    """(N,) difference of the LINE_QUANTILES of each line (N, M): np.quantile's, without its overhead."""
    last = lines.shape[1] - 1
    places = [quantile * last for quantile in LINE_QUANTILES]
    below = [int(place) for place in places]
    ordered = np.partition(lines, sorted({k for b in below for k in (b, min(b + 1, last))}), axis=1)
    lower, upper = (
        ordered[:, b] + (ordered[:, min(b + 1, last)] - ordered[:, b]) * np.float32(place - b)
        for b, place in zip(below, places, strict=True)
    )
    return upper - lower
