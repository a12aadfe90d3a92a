"""At which edges of a radiograph the lungs are cut off: a logistic read-out of how near they come to an edge
and how they end there."""

import numpy as np

EDGES = ("top", "left", "bottom", "right")
#: Models of the edges; the two sides share one, for mirroring exchanges them.
KINDS = ("top", "side", "bottom", "side")
#: Side of the grid in whose pixels lines are counted.
_GRID = 128
#: Lines from the edge inwards, and from the lungs' end inwards, that are looked at.
_LINES, _FLAT, _DEEP = 10, (0, 1, 2, 4, 8), (1, 3, 6, 12)
_WIDEST_GAP = 0.3
#: So many of the features, the first ones, are distances: the smaller, the likelier is a cut.
DISTANCES = 3
#: Weights of ``edge_features`` and, last, the constant; fitted on 180 radiographs of ChestX-ray14 (NIH
#: Clinical Center) by the recipe gate.
WEIGHTS = {
    "top": np.array((
        -43.58, -1.60, -0.44, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 3.37,
        0.00, 0.00, 0.00, 1.35, 7.41, 0.00, 0.00, 0.00, 0.00, -0.59,
    )),
    "side": np.array((
        -15.32, -1.29, -1.21, 2.27, 0.00, 0.73, 0.00, 1.44, 3.73, 2.59, 0.32, 0.15, 0.43, 1.77,
        0.00, 0.95, 1.22, 1.35, 1.96, 0.00, 0.00, 0.00, 0.00, -3.28,
    )),
    "bottom": np.array((
        -22.96, -2.29, -0.00, 1.34, 2.84, 6.00, 0.00, 0.00, 0.94, 1.98, 0.00, 1.46, 1.21, 1.74,
        1.53, 0.93, 1.18, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, -0.24,
    )),
}  # fmt: skip


def cut_probabilities(
    lungs: np.ndarray, edges: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Probability that the lungs are cut off at the radiograph's (top, left, bottom, right); 0 without lungs.

    Args:
        lungs: (H, W) bool, both lungs on a square grid.
        edges: (top, left, bottom, right) of the radiograph in the grid; infinite where it may go on.
    """
    if not lungs.any():
        return 0.0, 0.0, 0.0, 0.0
    found = [
        _probability(edge_features(lungs, edges, n) @ WEIGHTS[kind][:-1] + WEIGHTS[kind][-1])
        if np.isfinite(edges[n])
        else 0.0
        for n, kind in enumerate(KINDS)
    ]
    return found[0], found[1], found[2], found[3]


def edge_features(lungs: np.ndarray, edges: tuple[float, float, float, float], number: int) -> np.ndarray:
    """(23,) features of the edge EDGES[``number``]: the lungs' distance from it (4), lung along the lines at
    the edge (10), how flat the lungs end (5) and how wide (4).

    Args:
        lungs: (H, W) bool with some True.
        edges: as in ``cut_probabilities``.
        number: of the edge.
    """
    seen = _turned(_within(lungs, edges), number)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    step = lungs.shape[0] / _GRID
    gap = rows[0] / step
    near = min(gap * step / height, _WIDEST_GAP)
    lines = [seen[min(int(n * step), len(seen) - 1)].sum() / width for n in range(_LINES)]
    ends = seen[rows[0] :, columns[0] : columns[-1] + 1]
    depth = np.where(ends.any(axis=0), ends.argmax(axis=0), len(seen)) / step
    return np.array([
        min(gap / _GRID, 0.15), near, np.sqrt(near), float(gap == 0),
        *lines,
        *((depth <= n).mean() for n in _FLAT),
        *(seen[rows[0] : rows[0] + max(1, int(n * step))].mean() for n in _DEEP),
    ])  # fmt: skip


def _within(lungs: np.ndarray, edges: tuple[float, float, float, float]) -> np.ndarray:
    """The part of ``lungs`` between the edges, with all of the lungs."""
    limits = []
    for axis in (0, 1):
        found = np.flatnonzero(lungs.any(axis=1 - axis))
        ends = zip(edges[axis::2], (0, len(lungs)), strict=True)
        first, last = (edge if np.isfinite(edge) else end for edge, end in ends)
        limits.append(slice(max(0, min(round(first), found[0])), max(round(last), found[-1] + 1)))
    return lungs[limits[0], limits[1]]


def _turned(lungs: np.ndarray, number: int) -> np.ndarray:
    """``lungs`` with the edge EDGES[``number``] on top."""
    return (lungs, lungs.T, lungs[::-1], lungs[:, ::-1].T)[number]


def _probability(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))
