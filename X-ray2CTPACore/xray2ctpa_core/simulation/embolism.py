"""Clots: filling defects along the pulmonary arteries of chosen lobes, with their mask."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.boxes import box_around

if TYPE_CHECKING:  # the template needs SimpleITK, which simulation.people does not
    from xray2ctpa_core.simulation.template import Template

#: Attenuation of fresh clot, lower and upper bound in HU; arteries have 250-550 HU.
CLOT_HU = (30.0, 60.0)
#: Share of patients with clot in the main or lobar arteries; the others' clots begin more peripherally.
_CENTRAL_SHARE = 0.6
_CENTRAL_FROM_MM = 8.0
_PERIPHERAL_FROM_MM = 25.0
#: Size of the patches that a clot fills, in voxels of the template.
_TEXTURE_BLUR = (1.5, 2.0, 2.0)


@dataclass(frozen=True)
class Embolism:
    """Clots of one patient, on the template's grid.

    Attributes:
        mask: (D, H, W) bool, clot voxels, all inside arteries.
        lobes: labels of the lobes with clot.
        hu: attenuation of the clots in HU.
    """

    mask: np.ndarray
    lobes: tuple[int, ...]
    hu: float


def draw_embolism(template: "Template", generator: np.random.Generator) -> Embolism:
    """Draws one to four lobes and a clot in each, from a start depth outwards along the lobe's arteries."""
    count = int(generator.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.2, 0.15]))
    chosen = tuple(sorted(int(lobe) for lobe in generator.choice(labels.LOBES, count, replace=False)))
    central = generator.random() < _CENTRAL_SHARE
    start = _CENTRAL_FROM_MM if central else _PERIPHERAL_FROM_MM
    length = generator.uniform(25.0, 60.0)
    depth = template.artery_depth
    along = (depth >= start) & (depth <= start + length) & np.isin(template.lobes, chosen)
    widened = np.zeros_like(along)
    box = box_around(along, (0.5, 0.5, 0.5))  # the dilation's one voxel, and one more
    inside = np.isfinite(depth[box]) & (depth[box] > 0)
    widened[box] = ndimage.binary_dilation(along[box], iterations=1) & inside
    mask = _fill(widened, generator.uniform(0.65, 1.0), generator)
    bearing = tuple(lobe for lobe in chosen if (mask & (template.lobes == lobe)).any())
    return Embolism(mask, bearing, float(generator.uniform(*CLOT_HU)))


def _fill(arteries: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Keeps about ``share`` of the voxels, in patches of some millimetres, because occlusion is uneven."""
    noise = generator.normal(size=arteries.shape)
    if not arteries.any():
        return arteries
    box = box_around(arteries, _TEXTURE_BLUR)
    texture = ndimage.gaussian_filter(noise[box].astype(np.float32), _TEXTURE_BLUR)
    filled = np.zeros_like(arteries)
    filled[box] = arteries[box] & (texture >= np.quantile(texture[arteries[box]], 1.0 - share))
    return filled
