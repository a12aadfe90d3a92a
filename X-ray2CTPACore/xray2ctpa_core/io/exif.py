"""EXIF and TIFF orientations: turn stored rows and columns into an upright image."""

import numpy as np

#: Orientation tag -> function that makes the stored array (rows, columns, ...) upright.
_UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
_TRANSPOSED = (5, 6, 7, 8)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """``array`` (rows, columns, ...) turned according to ``orientation``; unchanged for unknown numbers."""
    return _UPRIGHT.get(orientation, lambda a: a)(array)


def upright_aspect(aspect: float, orientation: int) -> float:
    """Height of a pixel over its width after ``upright``."""
    return 1 / aspect if orientation in _TRANSPOSED else aspect
