"""The share of a Grad-CAM map's heat in the lobes that contain clots."""

from collections.abc import Collection

import numpy as np
from scipy import ndimage

from xray2ctpa_core.metrics.localisation import HeatShare, heat_share
from xray2ctpa_core.simulation.labels import LOBES

#: Vessels have labels of their own; a voxel at most this many voxels from a lobe belongs to it.
REACH = 3.0


def lobe_map(organs: np.ndarray) -> np.ndarray:
    """Label of the nearest lobe of each voxel within REACH voxels of one, else 0.

    Args:
        organs: (D, H, W) uint8, values of simulation.labels.
    """
    outside = ~np.isin(organs, LOBES)
    distance, nearest = ndimage.distance_transform_edt(outside, return_indices=True)
    return np.where(distance <= REACH, organs[tuple(nearest)], 0).astype(np.uint8)


def clot_lobe_share(gradcam: np.ndarray, organs: np.ndarray, bearing: Collection[int]) -> HeatShare | None:
    """Share of the lungs' heat inside the clot-bearing lobes; chance is those lobes' share of the lungs.

    Args:
        gradcam: (D, H, W), 0 to 1.
        organs: (D, H, W) label map.
        bearing: labels of the clot-bearing lobes.

    Returns:
        None if no lobe contains a clot, or if all do, because then every map is right.
    """
    lobes = lobe_map(organs)
    target = np.isin(lobes, list(bearing))
    if not target.any() or target[lobes > 0].all():
        return None
    return heat_share(gradcam, target, lobes > 0)
