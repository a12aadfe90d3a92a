"""Parts of a volume: what is small is filtered where it lies; the whole volume takes ten times as long."""

import numpy as np

#: Deviations after which ndimage.gaussian_filter ends.
_TRUNCATE = 4.0


def box_around(mask: np.ndarray, sigma: tuple[float, ...] = (0.0, 0.0, 0.0)) -> tuple[slice, ...]:
    """The box of a mask and of all voxels that a Gaussian filter of ``sigma`` (in voxels) mixes with its own.

    A volume filtered in the box has the whole volume's values in the mask, and the mask has all of its own.

    An empty mask has an empty box.
    """
    box = []
    for axis, deviation in enumerate(sigma):
        touched = np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
        reach = int(_TRUNCATE * deviation + 0.5)
        box.append(slice(max(0, touched[0] - reach), touched[-1] + 1 + reach) if len(touched) else slice(0))
    return tuple(box)
