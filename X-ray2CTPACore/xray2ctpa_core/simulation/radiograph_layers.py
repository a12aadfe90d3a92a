"""The template CT as layers of line integrals in several directions, from which radiographs are composed."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.template import NECK_SLICES, Template

#: Edge length in mm of a layer's pixels and of the voxels that are summed along the rays.
LAYER_MM = 2.8
#: Lung counts as visible on the radiograph where at least this many mm of it lie along the ray ...
SEEN_LUNG_MM = 25.0
#: ... and are at least this share of the ray's path through the body: the dark fields down to the domes and
#: the costophrenic angles, without the recess behind the liver.
SEEN_LUNG_SHARE = 0.3
LAYERS = ("solid", "bone", "right", "left", "right_mm", "left_mm", "heart")
_BONE_FROM_HU = 150.0


@dataclass(frozen=True)
class LayeredView:
    """Projections in one direction.

    Attributes:
        layers: (7, H, W) float32, order LAYERS; attenuation in mm of water for ``solid`` (all but the
            lungs), ``bone`` (what bone adds to soft tissue) and the lungs' tissue, thickness in mm for
            ``right_mm``, ``left_mm`` and ``heart``. Rows run down, columns to the patient's left for a
            frontal view.
    """

    layers: np.ndarray

    def layer(self, name: str) -> np.ndarray:
        """(H, W) float32, the one of LAYERS with that name."""
        return self.layers[LAYERS.index(name)]

    def lungs(self) -> np.ndarray:
        """(2, H, W) bool: the visible lungs, the patient's right and left."""
        return seen_lungs(dict(zip(LAYERS, self.layers, strict=True)))

    def lung_box(self) -> tuple[float, float, float, float]:
        """(top, left, bottom, right) of the visible lungs in layer pixels."""
        seen = np.argwhere(self.lungs().any(0))
        top, left = seen.min(0)
        bottom, right = seen.max(0) + 1
        return float(top), float(left), float(bottom), float(right)


def seen_lungs(layers: dict[str, np.ndarray]) -> np.ndarray:
    """(2, H, W) bool: the patient's right and left lung where visible on a radiograph, from layers by
    name."""
    body = layers["solid"] + layers["bone"]
    sides = (layers["right_mm"], layers["left_mm"])
    return np.stack([(mm >= SEEN_LUNG_MM) & (mm >= SEEN_LUNG_SHARE * (mm + body)) for mm in sides])


def coarse_materials(template: Template) -> np.ndarray:
    """(7, D, H, W) float32 on a LAYER_MM grid: the integrands of LAYERS, per mm of a ray.

    The template's neck is left out: radiographs get random shoulders and necks
    (simulation.radiograph_anatomy).
    """
    native_hu, organs, inside = (
        values[:-NECK_SLICES] for values in (template.native_hu, template.organs, template.lungs)
    )
    right = np.isin(organs, labels.RIGHT_LOBES)
    left = np.isin(organs, labels.LEFT_LOBES)
    middle = template.centre[2]
    columns = np.arange(right.shape[2])
    right |= inside & ~left & (columns < middle)
    left |= inside & ~right
    water = np.clip(1 + native_hu / 1000, 0, 3).astype(np.float32)
    bone = np.clip(native_hu - _BONE_FROM_HU, 0, 1500) / 1000 * (organs == labels.BONES)
    heart = np.isin(organs, (labels.HEART,))
    parts = (
        water * ~(right | left) - bone, bone, water * right, water * left, right, left, heart
    )  # fmt: skip
    factors = [s / LAYER_MM for s in template.spacing]
    return np.stack([ndimage.zoom(p.astype(np.float32), factors, order=1) for p in parts])


def project_layers(materials: np.ndarray, yaw: float, pitch: float) -> LayeredView:
    """Sums the materials along the rays of a view rotated by ``yaw`` about the long axis (0 frontal, 90
    lateral) and tilted by ``pitch``, in degrees."""
    a, b = np.deg2rad([yaw, pitch])
    about_z = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_x = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    matrix = about_z @ about_x
    centre = (np.array(materials.shape[1:]) - 1) / 2
    turned = [
        ndimage.affine_transform(m, matrix, centre - matrix @ centre, order=1, mode="constant")
        for m in materials
    ]
    layers = np.stack([LAYER_MM * t.sum(axis=1)[::-1] for t in turned])
    return LayeredView(layers.astype(np.float32))


def frontal_and_other_views(
    template: Template, frontal: int, other: int, generator: np.random.Generator
) -> tuple[list[LayeredView], list[LayeredView]]:
    """Draws ``frontal`` nearly frontal views (turned and tilted a little) and ``other`` oblique ones."""
    materials = coarse_materials(template)
    views = [
        project_layers(materials, generator.normal(0, 4), generator.normal(0, 5)) for _ in range(frontal)
    ]
    turned = [
        project_layers(
            materials, generator.choice([-1, 1]) * generator.uniform(55, 95), generator.normal(0, 4)
        )
        for _ in range(other)
    ]
    return views, turned
