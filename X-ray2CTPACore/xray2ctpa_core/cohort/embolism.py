"""Clots: filling defects along the pulmonary arteries of chosen lobes, with their mask."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xray2ctpa_core.cohort import labels
from xray2ctpa_core.cohort.template import Template

#: Attenuation of fresh clot, lower and upper bound in HU (facts: 30-60 HU in an artery of 250-550 HU).
CLOT_HU = (30.0, 60.0)
#: Share of patients with clot in the main or lobar arteries; the others' begins further out.
_CENTRAL_SHARE = 0.6
_CENTRAL_FROM_MM = 8.0
_PERIPHERAL_FROM_MM = 25.0


@dataclass(frozen=True)
class Embolism:
    """Clots of one patient, on the template's grid.

    Attributes:
        mask: (D, H, W) bool, clot voxels, all inside arteries.
        lobes: labels of the lobes that bear clot.
        hu: attenuation of the clots.
    """

    mask: np.ndarray
    lobes: tuple[int, ...]
    hu: float


def draw_embolism(template: Template, generator: np.random.Generator) -> Embolism:
    """Draws one to four lobes and a clot in each, from a start depth outwards along the lobe's arteries."""
    count = int(generator.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.2, 0.15]))
    chosen = tuple(sorted(int(lobe) for lobe in generator.choice(labels.LOBES, count, replace=False)))
    central = generator.random() < _CENTRAL_SHARE
    start = _CENTRAL_FROM_MM if central else _PERIPHERAL_FROM_MM
    length = generator.uniform(25.0, 60.0)
    depth = np.where(np.isin(template.lobes, chosen), template.artery_depth, np.inf)
    along = (depth >= start) & (depth <= start + length)
    arteries = np.isfinite(template.artery_depth)
    widened = ndimage.binary_dilation(along, iterations=1) & arteries & (template.artery_depth > 0)
    mask = _fill(widened, generator.uniform(0.65, 1.0), generator)
    bearing = tuple(lobe for lobe in chosen if (mask & (template.lobes == lobe)).any())
    return Embolism(mask, bearing, float(generator.uniform(*CLOT_HU)))


def _fill(arteries: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Keeps about ``share`` of the voxels, in patches of some millimetres: clots occlude unevenly."""
    texture = ndimage.gaussian_filter(generator.normal(size=arteries.shape).astype(np.float32), (1.5, 2, 2))
    if not arteries.any():
        return arteries
    return arteries & (texture >= np.quantile(texture[arteries], 1.0 - share))
