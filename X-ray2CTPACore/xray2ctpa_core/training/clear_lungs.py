"""Lungs without what is one person's disease, for the tissue of a bank.

People with an openly licensed CT often have lung cancer. A sample in their tissue would show their mass in
a patient whose radiograph shows none.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW

#: Below this a place is lung, if it is not around the body.
_LUNG_HU = -600.0
#: By this much more than in the other people a person's lung is diseased.
_DISEASE_HU = 150.0
#: Least size of a lung, of the greater one's.
_LUNG_SHARE = 0.2
#: Radii in mm: vessels are thinner than the first, masses are filled up to the second.
_VESSEL_MM, _MASS_MM = 5.0, 30.0
#: Width in mm of the border within which lungs pass into what is around them.
_BORDER_MM = 6.0


def clear_lungs(volumes: torch.Tensor, voxel_mm: Sequence[float]) -> torch.Tensor:
    """Removes masses, consolidations and bullae of single people.

    Where the lung without its vessels (a grey opening) is unlike that of the others, it becomes the median
    of the people's. Vessels stay a person's own, but not within a mass. Only lungs change, towards their
    border less; where a person has none, as below a higher diaphragm, nothing does.

    Args:
        volumes: (K, D, H, W) in [-1, 1], in one space. Of fewer than three people nobody is the odd one out,
            and on voxels larger than a vessel vessels are not told from lung: then nothing changes.
        voxel_mm: of the grid, (z, y, x).

    Returns:
        (K, D, H, W) in [-1, 1].
    """
    vessel = _ball(_VESSEL_MM, voxel_mm)
    if len(volumes) < 3 or vessel.size == 1:
        return volumes
    own = volumes.cpu().double().numpy()
    lower, upper = DEFAULT_HU_WINDOW
    lung, disease = 2 * (_LUNG_HU - lower) / (upper - lower) - 1, 2 * _DISEASE_HU / (upper - lower)
    lungs = _lungs(np.median(own, 0), lung, voxel_mm)
    thick = np.stack([ndimage.grey_opening(one, footprint=vessel) for one in own])
    shared = ndimage.gaussian_filter(np.where(lungs, np.median(thick, 0), lung), _sigma(4, voxel_mm))
    cleared = []
    for one, opened in zip(own, thick, strict=True):
        inner = lungs & _closed(_lungs(one, lung, voxel_mm), _MASS_MM, voxel_mm)
        mass = ndimage.binary_opening(inner & (opened - shared > disease), vessel)
        in_mass = _softened(ndimage.binary_dilation(mass, vessel), voxel_mm)
        from_border = ndimage.distance_transform_edt(inner, sampling=voxel_mm)
        unlike = ndimage.gaussian_filter(np.abs(opened - shared), _sigma(2, voxel_mm)) / disease
        share = np.clip((unlike - 0.2) / 0.4, 0, 1) * np.clip(from_border / _BORDER_MM, 0, 1)
        share = np.maximum(share, in_mass * lungs)
        cleared.append(one + share * (shared + (1 - in_mass) * (one - opened) - one))
    return torch.from_numpy(np.stack(cleared)).to(volumes).clamp(-1, 1)


def _lungs(volume: np.ndarray, lung: float, voxel_mm: Sequence[float]) -> np.ndarray:
    """Both lungs of (D, H, W), with their vessels' places left out: the greatest pieces of air that do not
    reach the sides, the front or the back."""
    air = ndimage.gaussian_filter(volume, _sigma(3, voxel_mm)) < lung
    pieces, _ = ndimage.label(air)
    sides = (pieces[:, 0], pieces[:, -1], pieces[:, :, 0], pieces[:, :, -1])
    sizes = np.bincount(pieces.ravel())
    sizes[np.unique(np.concatenate([side.ravel() for side in sides]))] = 0
    sizes[0] = 0
    return np.isin(pieces, np.flatnonzero(sizes > _LUNG_SHARE * sizes.max()))


def _closed(mask: np.ndarray, radius_mm: float, voxel_mm: Sequence[float]) -> np.ndarray:
    """The closing of a mask by a ball: holes and notches of up to this radius are filled."""
    if not mask.any():
        return mask
    grown = ndimage.distance_transform_edt(~mask, sampling=voxel_mm) <= radius_mm
    return mask | (ndimage.distance_transform_edt(grown, sampling=voxel_mm) > radius_mm)


def _softened(mask: np.ndarray, voxel_mm: Sequence[float]) -> np.ndarray:
    """A mask in [0, 1] with a soft border, 1 within it."""
    return np.clip(1.5 * ndimage.gaussian_filter(mask.astype(float), _sigma(2, voxel_mm)), 0, 1)


def _ball(radius_mm: float, voxel_mm: Sequence[float]) -> np.ndarray:
    """(d, h, w) bool, a ball around the middle voxel."""
    axes = [np.arange(-int(radius_mm / mm), int(radius_mm / mm) + 1) * mm for mm in voxel_mm]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= radius_mm**2


def _sigma(mm: float, voxel_mm: Sequence[float]) -> list[float]:
    return [mm / size for size in voxel_mm]
