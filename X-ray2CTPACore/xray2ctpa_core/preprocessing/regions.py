"""Bright and dark structures of an image that are smaller than a window, and their connected regions.

Both are what a letter is looked for in (see `side_marker`); they are written for images of which little
exceeds the threshold, so that the time hangs on that little.
"""

from dataclasses import dataclass

import numpy as np

#: Lines of an image that are filtered together: what they hold stays in the processor's cache.
_LINES = 128


def relief(image: np.ndarray, window: int, bright: bool = True) -> np.ndarray:
    """What rises above the background: the image minus its opening by a square (white top-hat); of dark
    structures, its closing minus the image.

    Args:
        image: (H, W) float.
        window: side of the square in pixels, odd.
        bright: whether bright structures are meant, or dark ones.

    Returns:
        (H, W), at least 0; at the edges only pixels inside the image count.
    """
    if bright:
        return image - _extremes(_extremes(image, window, np.minimum), window, np.maximum)
    return _extremes(_extremes(image, window, np.maximum), window, np.minimum) - image


def _extremes(image: np.ndarray, window: int, choose: np.ufunc) -> np.ndarray:
    """Least (``choose`` np.minimum) or greatest value of a square around each pixel."""
    result = np.empty_like(image)
    for start in range(0, image.shape[0], _LINES):  # windows along rows, then along columns
        part = slice(start, start + _LINES)
        result[part] = _run(image[part], 1, window, choose)
    for start in range(0, image.shape[1], _LINES):
        part = slice(start, start + _LINES)
        result[:, part] = _run(result[:, part], 0, window, choose)
    return result


def _run(lines: np.ndarray, axis: int, window: int, choose: np.ufunc) -> np.ndarray:
    """Extremes of windows along an axis: of 2, 4, 8, ... pixels, and in the end of two that overlap.

    The whole array is one row of numbers for each step; a window that begins in a line reads no other line,
    for as much empty room as it is long follows each.
    """
    length, reach, shape = lines.shape[axis], window // 2, list(lines.shape)
    shape[axis] += 2 * reach
    padded = np.empty(shape, lines.dtype)
    along = np.moveaxis(padded, axis, 0)
    along[:reach] = along[reach + length :] = np.inf if choose is np.minimum else -np.inf
    along[reach : reach + length] = np.moveaxis(lines, axis, 0)
    step, now = padded.strides[axis] // padded.itemsize, padded.ravel()
    after, size = np.empty_like(now), 1
    while size < window:
        further = min(size, window - size)
        left = now.size - (size + further - 1) * step
        choose(now[:left], now[further * step :][:left], out=after[:left])
        now, after, size = after, now, size + further
    return now.reshape(padded.shape)[: lines.shape[0], : lines.shape[1]]


@dataclass(frozen=True)
class Regions:
    """Connected regions of a mask, corners touching included, in the order of their first pixels.

    Attributes:
        corners: (N, 4) top, left, bottom, right of each, the latter two exclusive.
        areas: (N,) in pixels.
        runs: (R, 3) row, first and last column of each horizontal run of pixels.
        of_run: (R,) the region that a run belongs to.
    """

    corners: np.ndarray
    areas: np.ndarray
    runs: np.ndarray
    of_run: np.ndarray

    def ink(self, index: int) -> np.ndarray:
        """(h, w) bool: a region in its box."""
        top, left, bottom, right = self.corners[index]
        row, first, last = self.runs[self.of_run == index].T
        steps = np.zeros((bottom - top, right - left + 1), np.int8)
        steps[row - top, first - left] = 1
        steps[row - top, last + 1 - left] = -1
        return np.cumsum(steps, axis=1, dtype=np.int8)[:, :-1].astype(bool)


def regions_of(pixels: np.ndarray, width: int) -> Regions:
    """The regions of a mask.

    Args:
        pixels: (M,) ascending, the mask's pixels as indices of the flat image.
        width: of the image.
    """
    apart = np.flatnonzero((np.diff(pixels) != 1) | (pixels[1:] % width == 0)) + 1
    starts, ends = pixels[np.append(0, apart)], pixels[np.append(apart - 1, -1)]
    rows, first, last = starts // width, starts % width, ends % width
    # Places on a grid whose rows end in two empty pixels, so that a run's neighbours lie in its own next row.
    below = width + 2
    begin, end = rows * below + first, rows * below + last
    low = np.searchsorted(end, begin + below - 1, "left")
    counts = np.searchsorted(begin, end + below + 1, "right") - low
    upper = np.repeat(np.arange(len(rows)), counts)
    lower = np.arange(len(upper)) + np.repeat(low - np.cumsum(counts) + counts, counts)
    roots = _joined(len(rows), upper, lower)
    of_run = np.cumsum(roots == np.arange(len(rows)))[roots] - 1
    number = int(of_run.max()) + 1
    corners = np.empty((number, 4), np.int64)
    corners[:, :2], corners[:, 2:] = np.iinfo(np.int64).max, 0
    for column, choose, values in (
        (0, np.minimum, rows), (1, np.minimum, first), (2, np.maximum, rows + 1), (3, np.maximum, last + 1)
    ):  # fmt: skip
        choose.at(corners[:, column], of_run, values)
    areas = np.bincount(of_run, last - first + 1).astype(np.int64)
    return Regions(corners, areas, np.stack([rows, first, last], axis=1), of_run)


def _joined(number: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(number,) for each node the least one that edges between ``one`` and ``other`` lead to."""
    roots = np.arange(number)
    while not np.array_equal(roots[one], roots[other]):
        least = np.minimum(roots[one], roots[other])
        np.minimum.at(roots, roots[one], least)
        np.minimum.at(roots, roots[other], least)
        while not np.array_equal(roots, further := roots[roots]):
            roots = further
    return roots
