"""Random anatomy: a diffeomorphic map from a patient's space into the template's.

The map is backward (patient point -> template point), so that a patient's volume is one resampling of the
template: p -> exp(v)(A p), with A an affine change of size and posture. The stationary velocity field v is
the sum of a smooth random part and of changes of single organs (Arsigny et al., MICCAI 2006, for exp by
squaring).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.simulation.template import Template

#: Step in mm of the coarse grid of velocities, which are smooth at this scale.
_STEP_MM = 10.0
_SQUARINGS = 5
#: Gaussian standard deviation (z, y, x) in mm of the region around its centre in which an organ is scaled.
_ORGAN_REACHES = {
    "heart": np.array([42.0, 40.0, 48.0]),
    "trunk": np.array([20.0, 20.0, 24.0]),
    "hila": np.full(3, 18.0),
}


@dataclass(frozen=True)
class Anatomy:
    """Parameters of one patient's anatomy; all are drawn by `draw_anatomy`.

    Attributes:
        scale: (z, y, x) size relative to the template.
        rotation: degrees about (z, y, x): turning, leaning sideways, leaning forward.
        heart_scale, trunk_scale, hilum_scale: size of heart, pulmonary trunk and hila over their usual size.
        diaphragm_mm: (right, left) rise of the diaphragm's domes in mm.
        wall_mm: thickness added to the chest wall in mm.
        arch_mm: (z, y, x) shift of the aortic arch in mm.
        smooth_mm, fine_mm: standard deviation in mm of the random field at 60 mm and at 30 mm.
    """

    scale: tuple[float, float, float]
    rotation: tuple[float, float, float]
    heart_scale: float
    trunk_scale: float
    hilum_scale: float
    diaphragm_mm: tuple[float, float]
    wall_mm: float
    arch_mm: tuple[float, float, float]
    smooth_mm: float
    fine_mm: float


def draw_anatomy(signs: dict[str, bool], generator: np.random.Generator) -> Anatomy:
    """Draws a patient's anatomy; cardiomegaly, Fleischner and hilar signs enlarge their organ."""

    def normal(sd: float) -> float:
        return float(np.clip(generator.normal(), -2.2, 2.2) * sd)

    # Spread so that the lungs' width over height on the radiograph is that of real radiographs: median 1.22,
    # 2-98 % 0.95-1.65 over the 435 lung outlines of the torchxrayvision package.
    habitus = normal(0.07)
    inspiration = 12.0 + normal(20.0)
    return Anatomy(
        scale=(
            float(np.exp(-0.02 + 0.3 * habitus + normal(0.09))),
            float(np.exp(0.8 * habitus + normal(0.05))),
            float(np.exp(habitus + normal(0.03))),
        ),
        rotation=(normal(4.0), normal(2.5), normal(4.0)),
        heart_scale=(1.27 if signs["cardiomegaly"] else 0.98) * float(np.exp(normal(0.07))),
        trunk_scale=(1.35 if signs["fleischner"] else 1.0) * float(np.exp(normal(0.05))),
        hilum_scale=(1.3 if signs["hilum"] else 1.0) * float(np.exp(normal(0.04))),
        diaphragm_mm=(inspiration + normal(7.0), inspiration + normal(7.0)),
        wall_mm=float(np.clip(6.0 + 60.0 * habitus + normal(5.0), -3.0, 22.0)),
        arch_mm=(normal(5.0), normal(4.0), normal(5.0)),
        smooth_mm=5.0,
        fine_mm=1.6,
    )


class Deformation:
    """The map of one patient, evaluated on any axial grid of points.

    Args:
        template: the template whose organs move.
        anatomy: parameters of the changes.
        generator: draws the random part of the velocity field.
    """

    def __init__(self, template: Template, anatomy: Anatomy, generator: np.random.Generator) -> None:
        self._template = template
        self._inverse = np.linalg.inv(_affine(anatomy))
        velocity = _velocity(template, anatomy, generator)
        self._displacement = _exponential(torch.from_numpy(velocity))

    def template_points(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> torch.Tensor:
        """Template points, in grid_sample coordinates, of the patient points of an axial grid.

        Args:
            z, y, x: coordinates in mm from the middle of the lungs along each axis.

        Returns:
            (1, len(z), len(y), len(x), 3) float32 in [-1, 1], last axis (x, y, z), align_corners=True.
        """
        coarse = [np.linspace(axis[0], axis[-1], max(2, round(np.ptp(axis) / 5.0))) for axis in (z, y, x)]
        grid = np.stack(np.meshgrid(*coarse, indexing="ij")).reshape(3, -1)
        points = torch.from_numpy((self._inverse @ grid).astype(np.float32)).reshape(
            3, *(len(axis) for axis in coarse)
        )
        half = _half_extent(self._template)
        where = (points / half[:, None, None, None]).flip(0).permute(1, 2, 3, 0)[None]
        moved = points + torch.nn.functional.grid_sample(
            self._displacement[None], where, padding_mode="border", align_corners=True
        ).squeeze(0)
        centre = torch.tensor(self._template.centre, dtype=torch.float32)
        spacing = torch.tensor(self._template.spacing, dtype=torch.float32)
        size = torch.tensor(self._template.hu.shape, dtype=torch.float32)
        index = moved / spacing[:, None, None, None] + centre[:, None, None, None]
        unit = (2 * index / (size - 1)[:, None, None, None] - 1).flip(0)
        fine = torch.nn.functional.interpolate(
            unit[None], size=(len(z), len(y), len(x)), mode="trilinear", align_corners=True
        )
        return fine.permute(0, 2, 3, 4, 1)


def _half_extent(template: Template) -> torch.Tensor:
    """Half the edge of the box of the velocities, (z, y, x) in mm around the lungs' middle."""
    shape, spacing = np.array(template.hu.shape), np.array(template.spacing)
    return torch.from_numpy((np.ceil(shape * spacing / 2 / _STEP_MM) * _STEP_MM).astype(np.float32))


def _affine(anatomy: Anatomy) -> np.ndarray:
    """(3, 3) template -> patient, axes (z, y, x): scaling, then rotation."""
    turns = np.eye(3)
    for degrees, (a, b) in zip(anatomy.rotation, ((1, 2), (0, 2), (0, 1)), strict=True):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = c
        turn[a, b], turn[b, a] = -s, s
        turns = turn @ turns
    return turns @ np.diag(anatomy.scale)


def _velocity(template: Template, anatomy: Anatomy, generator: np.random.Generator) -> np.ndarray:
    """(3, nz, ny, nx) float32 velocity in mm, axes (z, y, x), on the coarse grid around the lungs' middle."""
    half = _half_extent(template).numpy()
    axes = [np.linspace(-h, h, round(2 * h / _STEP_MM) + 1) for h in half]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    points = np.stack([z, y, x])
    velocity = np.zeros_like(points)
    for length, sd in ((60.0, anatomy.smooth_mm), (30.0, anatomy.fine_mm)):
        for component in velocity:
            noise = ndimage.gaussian_filter(generator.normal(size=z.shape), length / 2 / _STEP_MM)
            component += sd * noise / noise.std()
    for organ, scale, reach in _scaled_organs(template, anatomy):
        offset = points - organ[:, None, None, None]
        weight = np.exp(-((offset / reach[:, None, None, None]) ** 2).sum(0) / 2)
        velocity -= np.log(scale) * offset * weight
    velocity[0] -= _diaphragm(template, anatomy, points)
    near_arch = np.exp(
        -((points - template.landmarks["arch"][:, None, None, None]) ** 2).sum(0) / 2 / 25.0**2
    )
    velocity -= np.array(anatomy.arch_mm)[:, None, None, None] * near_arch
    return (velocity + _wall(anatomy, points)).astype(np.float32)


def _organ_centres(template: Template, organ: str) -> list[np.ndarray]:
    """Centres in mm from the middle of the lungs (z, y, x) of "heart", "trunk" (one each) or "hila" (two)."""
    if organ != "hila":
        return [template.landmarks[organ]]
    return [template.landmarks["trunk"] + np.array([-8.0, 12.0, side * 38.0]) for side in (-1.0, 1.0)]


def _scaled_organs(template: Template, anatomy: Anatomy) -> Iterator[tuple[np.ndarray, float, np.ndarray]]:
    """(centre in mm, scale, reach in mm) of the heart, the pulmonary trunk and both hila."""
    scales = {"heart": anatomy.heart_scale, "trunk": anatomy.trunk_scale, "hila": anatomy.hilum_scale}
    for organ, scale in scales.items():
        for centre in _organ_centres(template, organ):
            yield centre, scale, _ORGAN_REACHES[organ]


def _diaphragm(template: Template, anatomy: Anatomy, points: np.ndarray) -> np.ndarray:
    """Velocity in mm along z that lifts the right and the left dome."""
    z, _, x = points
    levels = np.flatnonzero(template.lungs.any((1, 2)))
    base = (levels[0] - template.centre[0]) * template.spacing[0]
    height = (levels[-1] - levels[0]) * template.spacing[0]
    level = (z - base) / height
    along = np.clip(1.0 - (level - 0.30) / 0.55, 0.0, 1.0) * np.clip(1.0 + (level + 0.05) / 0.5, 0.0, 1.0)
    left = 1.0 / (1.0 + np.exp(-x / 18.0))
    right_mm, left_mm = anatomy.diaphragm_mm
    return along * ((1 - left) * right_mm + left * left_mm)


def _wall(anatomy: Anatomy, points: np.ndarray) -> np.ndarray:
    """Velocity that thickens the chest wall: outside the ribs' ellipse points move towards the lungs."""
    _, y, x = points
    radius = np.hypot(x / 135.0, y / 105.0)
    outside = np.clip((radius - 0.9) / 0.35, 0.0, 1.0)
    norm = np.maximum(np.hypot(x, y), 1.0)
    inward = -anatomy.wall_mm * outside
    return np.stack([np.zeros_like(x), inward * y / norm, inward * x / norm])


def _exponential(velocity: torch.Tensor) -> torch.Tensor:
    """Displacement (3, nz, ny, nx) in mm of exp(v) by scaling and squaring."""
    displacement = velocity / 2**_SQUARINGS
    size = velocity.shape[1:]
    axes = [torch.linspace(-1, 1, n) for n in size]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flip(-1)[None]
    unit = torch.tensor([2.0 / ((n - 1) * _STEP_MM) for n in size])
    for _ in range(_SQUARINGS):
        where = identity + (displacement * unit[:, None, None, None]).flip(0).permute(1, 2, 3, 0)[None]
        displacement = displacement + torch.nn.functional.grid_sample(
            displacement[None], where, padding_mode="border", align_corners=True
        ).squeeze(0)
    return displacement
