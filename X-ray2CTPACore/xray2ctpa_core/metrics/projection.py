"""Frontal views of a volume: its projection, and masks of its lungs and its contrast-filled heart."""

import numpy as np
from scipy import ndimage

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.errors import InputError

#: Lungs: voxels below this HU (between aerated lung, about -850, and soft tissue, about 40) ...
LUNG_HU = -400.0
#: ... in components of an axial slice that stay off the slice's edge, or have at least this mean HU (lungs
#: cut by the edge; the air around a patient is nearer to -1000) ...
OUTSIDE_HU = -920.0
#: ... and in 3D components of at least this share of the largest (leaves out bowel gas).
LEAST_COMPONENT = 0.1
#: Blood pool: voxels above this HU (contrast-filled, above muscle and liver) ...
BLOOD_HU = 150.0
#: ... in this span of the lungs' antero-posterior extent (before the spine, behind the sternum's face) ...
BLOOD_DEPTH = (0.05, 0.65)
#: ... after an opening by a ball of this radius in voxels, which removes ribs and lung vessels.
BLOOD_OPENING = 2
#: A frontal mask holds the rays with at least this share of the antero-posterior extent inside the organ.
LEAST_RAY = 0.04


def frontal_projection(hu: np.ndarray) -> np.ndarray:
    """Mean attenuation along the antero-posterior axis, by parallel rays: similar to a radiograph.

    Args:
        hu: (D, H, W) HU, k = 0 inferior.

    Returns:
        (D, W) float32, mean of HU + 1000 (at least 0); row 0 is superior, column 0 the patient's right.
    """
    if hu.ndim != 3:
        raise InputError(f"Expected a volume (D, H, W), got shape {hu.shape}.")
    return np.clip(hu - AIR_HU, 0, None).mean(axis=1, dtype=np.float32)[::-1]


def normalised_cross_correlation(image: np.ndarray, reference: np.ndarray) -> float:
    """Pearson correlation of the pixels of two images of one shape: -1 to 1; NaN where one is flat."""
    if image.shape != reference.shape:
        raise InputError(f"Expected two images of one shape, got {image.shape} and {reference.shape}.")
    if image.size == 0 or not (np.isfinite(image).all() and np.isfinite(reference).all()):
        raise InputError(f"Expected finite pixels, at least one, got NaN, infinity or none ({image.shape}).")
    a = image.astype(np.float64) - image.mean(dtype=np.float64)
    b = reference.astype(np.float64) - reference.mean(dtype=np.float64)
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else float("nan")


def lung_mask(hu: np.ndarray) -> np.ndarray:
    """Aerated lung and airways of a thorax by a fixed rule (LUNG_HU, OUTSIDE_HU, LEAST_COMPONENT).

    The Dice of its frontal projection with that of the labelled lobes' aerated part is 0.98 to 0.99 in each
    of twelve virtual patients.

    Args:
        hu: (D, H, W) HU.

    Returns:
        (D, H, W) bool; empty where there is no aerated lung.
    """
    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    components, _ = ndimage.label(hu < LUNG_HU, in_plane)
    edges = [components[:, 0], components[:, -1], components[:, :, 0], components[:, :, -1]]
    touching = np.unique(np.concatenate([edge.ravel() for edge in edges]))
    touching = touching[touching > 0]
    if touching.size == 0:
        return _large_components(components > 0, LEAST_COMPONENT)
    outside = touching[ndimage.mean(hu, components, touching) < OUTSIDE_HU]
    return _large_components((components > 0) & ~np.isin(components, outside), LEAST_COMPONENT)


def blood_pool_mask(hu: np.ndarray, lungs: np.ndarray | None = None) -> np.ndarray:
    """Contrast-filled heart and great vessels by a fixed rule, the same for true and generated volumes.

    The largest component of voxels above BLOOD_HU within the lungs' bounding box, before the spine
    (BLOOD_DEPTH), after an opening (BLOOD_OPENING). The Dice of its frontal projection with that of the
    labelled heart and aorta is 0.67 to 0.85 in twelve virtual patients: it lacks the heart's wall and
    includes the roots of the other great vessels. It compares two volumes by one rule and is no heart
    segmentation.

    Args:
        hu: (D, H, W) HU.
        lungs: (D, H, W) bool from ``lung_mask``, where already known.

    Returns:
        (D, H, W) bool; empty without lungs or contrast.
    """
    lungs = lung_mask(hu) if lungs is None else lungs
    mask = np.zeros(hu.shape, dtype=bool)
    if not lungs.any():
        return mask
    bottom, front, right = np.argwhere(lungs).min(axis=0)
    top, back, left = np.argwhere(lungs).max(axis=0) + 1
    first, last = (front + round(share * (back - front)) for share in BLOOD_DEPTH)
    box = (slice(bottom, top), slice(first, last), slice(right, left))
    mask[box] = ndimage.binary_opening(hu[box] > BLOOD_HU, _ball(BLOOD_OPENING))
    return _large_components(mask, 1.0)


def frontal_mask(mask: np.ndarray) -> np.ndarray:
    """(D, W) bool, row 0 superior: rays with at least LEAST_RAY of their length inside the organ."""
    return (mask.mean(axis=1) >= LEAST_RAY)[::-1]


def _ball(radius: int) -> np.ndarray:
    offsets = np.arange(-radius, radius + 1) ** 2
    return offsets[:, None, None] + offsets[:, None] + offsets <= radius**2


def _large_components(mask: np.ndarray, share: float) -> np.ndarray:
    """The components of ``mask`` that hold at least ``share`` of the largest one's voxels."""
    components, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    kept = sizes >= share * sizes.max()
    kept[0] = False
    return kept[components]
