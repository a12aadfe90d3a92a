"""Two masks laid over one another by a similarity without rotation: shapes compared, not places or sizes."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xray2ctpa_core.errors import InputError


@dataclass(frozen=True)
class Similarity:
    """target = centre_to + scale * (source - centre_from), in mm along (k, j, i).

    Attributes:
        scale: above 0; one number.
        centre_from, centre_to: of the source and of the target.
    """

    scale: float
    centre_from: tuple[float, ...]
    centre_to: tuple[float, ...]


def similarity_of(source: np.ndarray, target: np.ndarray, spacing: tuple[float, float, float]) -> Similarity:
    """Lays ``source`` over ``target``: equal centroids, and equal root mean square distances from them (the
    scale of an orthogonal Procrustes analysis).

    Args:
        source, target: (D, H, W) bool on one grid, neither empty.
        spacing: mm along (i, j, k).

    Raises:
        InputError: an empty mask, or one of a single voxel.
    """
    found = [np.argwhere(mask) * spacing[::-1] for mask in (source, target)]
    if min(map(len, found)) < 2:
        raise InputError(
            f"Expected two masks of two voxels or more, got {len(found[0])} and {len(found[1])}."
        )
    centres = [points.mean(axis=0) for points in found]
    sizes = [np.sqrt(np.square(p - c).sum(axis=1).mean()) for p, c in zip(found, centres, strict=True)]
    return Similarity(float(sizes[1] / sizes[0]), tuple(centres[0]), tuple(centres[1]))


def moved(mask: np.ndarray, similarity: Similarity, spacing: tuple[float, float, float]) -> np.ndarray:
    """(D, H, W) bool: ``mask`` moved by the similarity, on the same grid."""
    steps = np.array(spacing[::-1])
    start = np.array(similarity.centre_from) - np.array(similarity.centre_to) / similarity.scale
    return (
        ndimage.affine_transform(
            mask.astype(np.float32), np.full(3, 1 / similarity.scale), start / steps, order=1, mode="constant"
        )
        >= 0.5
    )
