"""Changes of attenuation on the template's grid: contrast timing, lung density, signs, clots."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import expit

from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.boxes import box_around
from xray2ctpa_core.simulation.embolism import Embolism
from xray2ctpa_core.simulation.template import Template

_BLOOD_HU = 45.0
_FLUID_HU = 12.0
#: Blur of an oligaemic lobe's edge, in voxels of the template.
_LOBE_BLUR = (1.0, 2.0, 2.0)


@dataclass(frozen=True)
class Enhancement:
    """Contrast and tissue of one patient.

    Attributes:
        right, left: enhancement of right heart with pulmonary arteries, and of left heart with aorta, as
            factors of the template's (contrast timing).
        lung_hu: shift of the lungs' attenuation in HU (inspiration, emphysema).
        bone: bone attenuation, as a factor of the template's.
    """

    right: float
    left: float
    lung_hu: float
    bone: float


def draw_enhancement(generator: np.random.Generator) -> Enhancement:
    """Draws contrast timing (arterial phase, 250-550 HU in the trunk), lung density and bone density."""
    return Enhancement(
        right=float(generator.uniform(0.85, 1.35)),
        left=float(generator.uniform(0.6, 1.05)),
        lung_hu=float(np.clip(generator.normal(0.0, 25.0), -45.0, 60.0)),
        bone=float(generator.uniform(0.85, 1.12)),
    )


def enhance(template: Template, enhancement: Enhancement) -> np.ndarray:
    """(D, H, W) float32 HU: the template with this patient's contrast, lung and bone density."""
    hu, organs = template.hu.copy(), template.organs
    arteries = organs == labels.PULMONARY_ARTERIES
    hu[arteries] = _scaled(hu[arteries], enhancement.right)
    left = np.isin(organs, (labels.AORTA, labels.PULMONARY_VEINS, labels.HEART)) & (hu > 120)
    hu[left] = _scaled(hu[left], enhancement.left)
    bones = organs == labels.BONES
    hu[bones] = np.where(hu[bones] > 0, hu[bones] * enhancement.bone, hu[bones])
    return shift_lungs(template, hu, enhancement)


def shift_lungs(template: Template, hu: np.ndarray, enhancement: Enhancement) -> np.ndarray:
    """Adds the patient's lung density to the lobes' parenchyma, in place, and returns ``hu``."""
    parenchyma = (template.organs >= labels.LEFT_UPPER_LOBE) & (template.organs <= labels.RIGHT_LOWER_LOBE)
    hu[parenchyma] = np.maximum(hu[parenchyma] + enhancement.lung_hu, -985.0)
    return hu


def _scaled(hu: np.ndarray, factor: float) -> np.ndarray:
    return _BLOOD_HU + (hu - _BLOOD_HU) * np.where(hu > _BLOOD_HU, factor, 1.0)


@dataclass(frozen=True)
class Findings:
    """Soft masks of one patient's lung findings, on the template's grid, each (D, H, W) float32 in 0..1.

    Attributes:
        dense: weight of ``dense_hu`` in a voxel.
        dense_hu: (D, H, W) attenuation of consolidation, infarct, fluid or oedema in HU.
        oligaemia: share of blood that vessels and parenchyma lose.
    """

    dense: np.ndarray
    dense_hu: np.ndarray
    oligaemia: np.ndarray


def draw_findings(
    template: Template, signs: dict[str, bool], embolism: Embolism | None, generator: np.random.Generator
) -> Findings:
    """Draws the signs in the lungs; infarct and oligaemia are placed in lobes with clots, if there are
    any."""
    shape = template.hu.shape
    dense, dense_hu = np.zeros(shape, np.float32), np.full(shape, _FLUID_HU, np.float32)
    oligaemia = np.zeros(shape, np.float32)

    def lay(layer: _Layer, share: float, hu: float) -> None:
        box, values = layer.box, layer.values * share
        stronger = values > dense[box]
        dense[box][stronger] = values[stronger]
        dense_hu[box][stronger] = hu

    preferred = embolism.lobes if embolism is not None and embolism.lobes else labels.LOBES
    if signs["opacity"]:
        for _ in range(int(generator.integers(1, 3))):
            lobe = int(generator.choice([labels.LEFT_LOWER_LOBE, labels.RIGHT_LOWER_LOBE, *labels.LOBES]))
            patch = _patch(template, lobe, generator, pleural=False)
            lay(patch, generator.uniform(0.45, 0.9), 20.0)
    if signs["hampton"]:
        patch = _patch(template, int(generator.choice(preferred)), generator, pleural=True)
        lay(patch, generator.uniform(0.7, 1.0), 30.0)
    if signs["oedema"]:
        lay(_perihilar(template), generator.uniform(0.12, 0.25), _FLUID_HU)
    if signs["effusion"]:
        sides = [labels.RIGHT_LOBES, labels.LEFT_LOBES]
        both = generator.random() < 0.3
        for side in sides if both else [sides[int(generator.integers(2))]]:
            lay(_effusion(template, side, generator), 1.0, _FLUID_HU)
    if signs["westermark"]:
        lobe = int(generator.choice(preferred))
        lobes = template.lobes == lobe
        box = box_around(lobes, _LOBE_BLUR)
        inside = ndimage.gaussian_filter(lobes[box].astype(np.float32), _LOBE_BLUR)
        oligaemia[box] = inside * template.lungs[box] * np.float32(generator.uniform(0.5, 0.9))
    return Findings(dense, dense_hu, oligaemia)


def apply_findings(template: Template, hu: np.ndarray, findings: Findings) -> np.ndarray:
    """(D, H, W) float32 HU: ``hu`` with oligaemia, then with opacities and fluid."""
    result = hu.copy()
    part = box_around(findings.oligaemia)
    bled = result[part]
    bloodless = np.where(bled > -700, bled * 0.45 - 0.55 * 860, bled - 45)
    result[part] += findings.oligaemia[part] * (np.maximum(bloodless, -990) - bled)
    part = box_around(findings.dense)
    towards = np.maximum(findings.dense_hu[part] - result[part], 0.0)
    result[part] += towards * findings.dense[part] * template.lungs[part]
    return result


def apply_embolism(hu: np.ndarray, embolism: Embolism | None) -> np.ndarray:
    """(D, H, W) HU with the clots' voxels lowered to the attenuation of clot; edges keep partial volume."""
    if embolism is None:
        return hu
    soft = ndimage.gaussian_filter(embolism.mask.astype(np.float32), (0.4, 0.6, 0.6))
    return np.where(embolism.mask, hu + np.maximum(soft, 0.6) * (np.minimum(embolism.hu, hu) - hu), hu)


def _axes_mm(template: Template, centre: np.ndarray) -> list[np.ndarray]:
    """z, y and x coordinates in mm from ``centre`` (voxel index), one 1D array each."""
    return [
        (np.arange(n, dtype=np.float32) - np.float32(c)) * np.float32(s)
        for n, c, s in zip(template.hu.shape, centre, template.spacing, strict=True)
    ]


class _Layer(NamedTuple):
    """A soft mask, ``values`` in 0..1, of a part of the template's grid; 0 elsewhere."""

    box: tuple[slice, ...]
    values: np.ndarray


def _patch(template: Template, lobe: int, generator: np.random.Generator, pleural: bool) -> _Layer:
    """A mottled ellipsoid inside one lobe, centred on its outer surface if ``pleural``."""
    lobe_mask = template.organs == lobe
    where = lobe_mask & template.pleural_shell if pleural else lobe_mask
    voxels = np.flatnonzero(where if where.any() else lobe_mask)
    centre = np.array(np.unravel_index(voxels[generator.integers(len(voxels))], lobe_mask.shape))
    low, high = (14.0, 26.0) if pleural else (18.0, 45.0)
    radii = generator.uniform(low, high, 3) * (0.7, 1.0, 1.0)
    reach = np.ceil(1.6 * radii / template.spacing).astype(int)
    box = tuple(
        slice(max(0, c - r), min(n, c + r + 1))
        for c, r, n in zip(centre, reach, template.hu.shape, strict=True)
    )
    z, y, x = (axis[b] for axis, b in zip(_axes_mm(template, centre), box, strict=True))
    lung = ndimage.gaussian_filter(lobe_mask[box].astype(np.float32), 0.8)
    texture = ndimage.gaussian_filter(generator.normal(size=lung.shape).astype(np.float32), (3, 6, 6))
    texture *= (0.5 if pleural else 1.2) / max(float(texture.std()), 1e-6)
    distance = (
        (z[:, None, None] / radii[0]) ** 2 + (y[:, None] / radii[1]) ** 2 + (x / radii[2]) ** 2 + texture
    )
    patch = expit((1.0 - distance) * (6.0 if pleural else 3.0)) * lung
    return _Layer(box, patch.astype(np.float32))


def _perihilar(template: Template) -> _Layer:
    """A mask of 1 near both hila and 0 in the periphery of the lungs."""
    trunk = template.landmarks["trunk"] / template.spacing + template.centre
    z, y, x = _axes_mm(template, trunk)
    profiles = (
        np.exp(-((z / 70.0) ** 2)),
        np.exp(-((y / 60.0) ** 2)),
        np.exp(-(((np.abs(x) - 40.0) / 45.0) ** 2)),
    )
    return _Layer((slice(None),), profiles[0][:, None, None] * profiles[1][:, None] * profiles[2])


def _effusion(template: Template, side: tuple[int, ...], generator: np.random.Generator) -> _Layer:
    """Fluid on one side, below a level that rises along the chest wall (the meniscus)."""
    lung = np.isin(template.lobes, side) & template.lungs
    levels = np.flatnonzero(lung.any((1, 2)))
    base, top = levels[0], levels[-1]
    height = (top - base) * template.spacing[0] * generator.uniform(0.12, 0.4)
    highest = base + int(np.ceil(height * (0.55 + 0.75) / template.spacing[0]))
    wet = (slice(base, min(highest, top) + 1),)  # only this part: the whole volume takes ten times as long
    z = ((np.arange(template.hu.shape[0], dtype=np.float32) - base) * template.spacing[0])[:, None, None][wet]
    level = height * (0.55 + 0.75 * np.exp(-template.wall_distance[wet] / 12.0))
    fluid = np.clip((level - z) / 6.0, 0.0, 1.0) * lung[wet]
    return _Layer(wet, fluid.astype(np.float32))
