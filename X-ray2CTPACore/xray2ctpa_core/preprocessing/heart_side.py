"""Finds on which side of a radiograph the heart lies, by a linear read-out of the differences between the
lungs' box and its mirror image."""

import numpy as np

#: Cells along a side of the lungs' box.
_CELLS = 8
#: Weights of lung, then of grey, in the left half of the box minus its mirror image, row by row; fitted on
#: 180 radiographs of ChestX-ray14 (NIH Clinical Center) by the recipe gate.
WEIGHTS = np.array((
    0.03, 0.34, 0.81, 0.33, 0.04, 0.00, 0.24, 0.11,
    -0.27, -0.23, 0.15, -0.16, -0.36, -0.10, -0.01, -0.26,
    -0.32, -0.03, -0.11, -0.19, -0.18, 0.00, -0.02, -0.11,
    0.01, 0.25, 0.20, -0.03, 0.01, 0.23, 0.59, 0.04,
    0.03, -0.35, -0.23, 0.02, -0.01, -0.25, -0.28, -0.09,
    0.10, 0.03, -0.37, 0.02, 0.14, -0.09, -0.07, 0.02,
    0.23, -0.03, 0.44, 0.20, 0.14, 0.19, 0.88, 0.20,
    -0.25, 0.03, 0.50, 0.12, -0.73, -0.63, -0.35, -0.04,
))  # fmt: skip


def mirrored_probability(masks: np.ndarray, image: np.ndarray) -> float:
    """Probability that left and right are exchanged, or that the heart lies on the right; 0.5 without lungs.

    Args:
        masks: (2, H, W) bool, the lungs.
        image: (H, W) greys of any scale, bright = attenuating, on the grid of the masks.
    """
    if not masks.any():
        return 0.5
    return float(1 / (1 + np.exp(-asymmetry(masks, image) @ WEIGHTS)))


def asymmetry(masks: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(64,) features of ``mirrored_probability``; mirroring masks and image only changes their sign."""
    lungs = np.logical_or(masks[0], masks[1])
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    grey = _cells(image[box])
    spread = float(grey.std())
    grey = (grey - grey.mean()) / (spread if spread > 0 else 1.0)
    parts = [_cells(lungs[box]), grey]
    return np.concatenate([(part - part[:, ::-1])[:, : _CELLS // 2].ravel() for part in parts])


def _cells(part: np.ndarray) -> np.ndarray:
    """(8, 8) means of equal cells of ``part`` (H, W), pixels at their edges are weighted by their share."""
    means = part.astype(np.float64)
    for axis in (0, 1):
        lines = np.moveaxis(means, axis, 0)
        sums = np.concatenate([np.zeros((1, lines.shape[1])), np.cumsum(lines, axis=0)])
        edges = np.linspace(0, len(lines), _CELLS + 1)
        below = np.minimum(edges.astype(int), len(lines) - 1)
        at_edges = sums[below] + (edges - below)[:, None] * lines[below]
        means = np.moveaxis(np.diff(at_edges, axis=0) * (_CELLS / len(lines)), 0, axis)
    return means
