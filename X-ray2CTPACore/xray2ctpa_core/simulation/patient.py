"""One virtual patient: from a seed and a number to a CTPA, its label maps and the radiograph."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.constants import (
    AIR_HU,
    DEFAULT_GRID,
    DEPTH_FRACTION,
    DETECTOR_TO_CENTRE_MM,
    FRAME_MARGIN,
    FRAME_PIXELS,
    MAP_GRID,
    SOURCE_TO_DETECTOR_MM,
)
from xray2ctpa_core.simulation.appearance import (
    apply_embolism,
    apply_findings,
    draw_enhancement,
    draw_findings,
    enhance,
    shift_lungs,
)
from xray2ctpa_core.simulation.deformation import Deformation, draw_anatomy
from xray2ctpa_core.simulation.embolism import draw_embolism
from xray2ctpa_core.simulation.projection import attenuation, develop, magnification, project
from xray2ctpa_core.simulation.signs import PREVALENCE, draw_signs, sign_probability
from xray2ctpa_core.simulation.template import Template
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume, axial_affine

#: Side of the radiograph over that of the frame.
_RADIOGRAPH_MARGIN = 1.25
#: Rendering grid of the frame: finer than DEFAULT_GRID by (2, 1, 2), so that averaging removes aliasing.
_FINER = (2, 1, 2)
#: (D, H, W) of the rendering grid.
_SHAPE = tuple(
    round(n * finer * margin)
    for n, finer, margin in zip(
        DEFAULT_GRID, _FINER, (_RADIOGRAPH_MARGIN, 1.0, _RADIOGRAPH_MARGIN), strict=True
    )
)
#: The body's centre lies this far in front of the lungs' centre (breast and sternum against the back).
_BODY_BEFORE_LUNGS_MM = 16.0
#: Path through lung in mm from which on a ray counts as lung on the radiograph.
_VISIBLE_LUNG_MM = 35.0
_LUNG_STEP_MM = 4.0


@dataclass(frozen=True)
class Patient:
    """A virtual patient.

    Attributes:
        ctpa: Volume, int16 HU, DEFAULT_GRID, axial, LPS, centred on the frame.
        organs: Volume, uint8, values of simulation.labels, same grid.
        clots: Volume, uint8, 1 in clots, same grid.
        radiograph: the radiograph, wider than the frame.
        frame: the radiograph's square that corresponds to the volume.
        template_map: (3, *MAP_GRID) float16, the template point of each point of the frame, in the
            template's grid_sample coordinates (x, y, z) in [-1, 1]; the map's corners are the centres of the
            volume's corner voxels.
        record: every parameter, JSON-ready: pe, signs, sign_probability, anatomy, ...
    """

    ctpa: Volume
    organs: Volume
    clots: Volume
    radiograph: Radiograph
    frame: FrontalFrame
    template_map: np.ndarray
    record: dict[str, Any]


def make_patient(template: Template, seed: int, number: int) -> Patient:
    """Makes patient ``number`` of cohort ``seed``, independently of all other patients."""
    drawn = _Drawn(template, seed, number)
    embolism, view = drawn.embolism, drawn.view
    hu = enhance(template, drawn.enhancement)
    hu = apply_embolism(apply_findings(template, hu, drawn.findings), embolism)
    points = drawn.deformation.template_points(*view.axes())
    clots = np.zeros(template.hu.shape, np.float32) if embolism is None else embolism.mask
    fine_hu, fine_clots, native_hu = _sample((hu, clots, drawn.native_hu()), points, (AIR_HU, 0.0, AIR_HU))
    fine_hu = _with_noise(view.inside(fine_hu), drawn.generator)
    shares = _average(view.inside(fine_clots))
    organs = _nearest(template.organs, points, view)
    volume = Volume(_average(fine_hu).round().astype(np.int16), view.affine())
    return Patient(
        ctpa=volume,
        organs=volume.with_array(organs),
        clots=volume.with_array((shares > 0.3).astype(np.uint8)),
        radiograph=drawn.radiograph(native_hu),
        frame=view.frame,
        template_map=view.template_map(drawn.deformation),
        record=drawn.record(),
    )


class _Drawn:
    """All random parameters of a patient, drawn before rendering."""

    def __init__(self, template: Template, seed: int, number: int) -> None:
        self._template, self._seed, self._number = template, seed, number
        self.generator = generator = np.random.default_rng([seed, number])
        self._pe = bool(generator.random() < PREVALENCE)
        self._signs = draw_signs(self._pe, generator)
        self.embolism = draw_embolism(template, generator) if self._pe else None
        self._anatomy = draw_anatomy(self._signs, generator)
        self.enhancement = draw_enhancement(generator)
        self.findings = draw_findings(template, self._signs, self.embolism, generator)
        self.deformation = Deformation(template, self._anatomy, generator)
        self.view = _View(template, self.deformation, generator)

    def native_hu(self) -> np.ndarray:
        """HU without contrast medium but with the findings, for the radiograph, on the template's grid."""
        native = shift_lungs(self._template, self._template.native_hu.copy(), self.enhancement)
        return apply_findings(self._template, native, self.findings)

    def radiograph(self, native_hu: torch.Tensor) -> Radiograph:
        """The radiograph of `native_hu` on the rendering grid."""
        spacing = self.view.radiograph_spacing_mm
        return Radiograph(
            self.view.radiograph(native_hu, self.generator),
            spacing_mm=(spacing, spacing),
            spacing_source="ImagerPixelSpacing",
            name=f"virtual-patient-{self._seed}-{self._number:06d}.png",
            modality="DX",
            photometric="MONOCHROME2",
            view="PA",
        )

    def record(self) -> dict[str, Any]:
        """Every parameter, JSON-ready."""
        return {
            "number": self._number,
            "seed": self._seed,
            "pe": self._pe,
            "signs": self._signs,
            "sign_probability": sign_probability(self._signs, PREVALENCE),
            "anatomy": dataclasses.asdict(self._anatomy),
            "enhancement": dataclasses.asdict(self.enhancement),
            "frame": dataclasses.asdict(self.view.frame),
            "frame_side_mm": self.view.side,
            "radiograph_spacing_mm": self.view.radiograph_spacing_mm,
            "lung_width_mm": self.view.lung_width_mm,
            "lung_height_mm": self.view.lung_height_mm,
            "clot_lobes": [] if self.embolism is None else list(self.embolism.lobes),
        }


class _View:
    """Position of the frame in the patient, and the rendering grid around it (all mm, axes z, y, x)."""

    def __init__(self, template: Template, deformation: Deformation, generator: np.random.Generator) -> None:
        self._ray = generator.normal(0.0, 15.0, 2)
        reach = np.array([190.0, 150.0, 190.0])
        axes = [np.arange(-r, r, _LUNG_STEP_MM) for r in reach]
        (shares,) = _sample((template.lungs,), deformation.template_points(*axes), (0.0,))
        lungs = shares.numpy() > 0.5
        z, y, x = (axis[index] for axis, index in zip(axes, np.nonzero(lungs), strict=True))
        depth = (y.min() + y.max()) / 2 - _BODY_BEFORE_LUNGS_MM
        box = _visible_box(z, y - depth, x, self._ray)
        self.side = FRAME_MARGIN * float(np.ptp(box, axis=1).max()) * generator.uniform(0.97, 1.05)
        middle = box.mean(1) + generator.normal(0.0, 0.012, 2).clip(-0.03, 0.03) * self.side
        self.centre = np.array([middle[0], depth, middle[1]])
        self.lung_width_mm = float(np.ptp(x))
        self.lung_height_mm = float(np.ptp(z))

    @property
    def radiograph_spacing_mm(self) -> float:
        """Radiograph pixel in mm at the detector."""
        return (
            self.side / FRAME_PIXELS * SOURCE_TO_DETECTOR_MM / (SOURCE_TO_DETECTOR_MM - DETECTOR_TO_CENTRE_MM)
        )

    def axes(self) -> list[np.ndarray]:
        """z, y and x in mm of the rendering grid: the frame with its margin, finer than DEFAULT_GRID."""
        extents = np.array([_RADIOGRAPH_MARGIN, DEPTH_FRACTION, _RADIOGRAPH_MARGIN])
        return [
            c + (np.arange(n) + 0.5 - n / 2) * e * self.side / n
            for c, n, e in zip(self.centre, _SHAPE, extents, strict=True)
        ]

    def template_map(self, deformation: Deformation) -> np.ndarray:
        """(3, *MAP_GRID) float16, see Patient."""
        extents = np.array([1.0, DEPTH_FRACTION, 1.0]) * self.side
        axes = [
            c + np.linspace(-0.5, 0.5, n) * e * (1 - 1 / voxels)
            for c, e, n, voxels in zip(self.centre, extents, MAP_GRID, DEFAULT_GRID, strict=True)
        ]
        return deformation.template_points(*axes)[0].permute(3, 0, 1, 2).numpy().astype(np.float16)

    def inside(self, values: torch.Tensor) -> torch.Tensor:
        """The part of ``values``, on the rendering grid, that lies in the frame."""
        k, i = ((n - round(n / _RADIOGRAPH_MARGIN)) // 2 for n in (_SHAPE[0], _SHAPE[2]))
        return values[k : _SHAPE[0] - k, :, i : _SHAPE[2] - i]

    def radiograph(self, native_hu: torch.Tensor, generator: np.random.Generator) -> np.ndarray:
        """(320, 320) float32 radiograph from the rendering grid, rows from the top."""
        extent = _RADIOGRAPH_MARGIN * self.side
        ray = ((self._ray[0] - self.centre[0]) * 2 / extent, (self._ray[1] - self.centre[2]) * 2 / extent)
        depth = torch.from_numpy(self.axes()[1] - self.centre[1])
        lines = project(attenuation(native_hu), depth, ray)
        side = lines.shape[1]
        square = torch.nn.functional.interpolate(
            lines[None, None], size=(side, side), mode="bilinear", align_corners=False
        )
        return develop(square[0, 0].flip(0).numpy(), generator)

    @property
    def frame(self) -> FrontalFrame:
        """The frame in radiograph pixels."""
        edge = (_SHAPE[2] - FRAME_PIXELS) / 2
        return FrontalFrame(top=edge, left=edge, side=float(FRAME_PIXELS))

    def affine(self) -> np.ndarray:
        """LPS affine of DEFAULT_GRID, its middle at the origin."""
        return axial_affine(DEFAULT_GRID, (self.side, DEPTH_FRACTION * self.side, self.side))


def _visible_box(z: np.ndarray, y: np.ndarray, x: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """((bottom, top), (right, left)) in mm of the lungs on a radiograph, in the plane through the middle.

    Thin lung in front of or behind the liver does not look aerated: only rays that cross _VISIBLE_LUNG_MM of
    lung count.

    Args:
        z, y, x: lung voxels of a grid with a step of _LUNG_STEP_MM, in mm.
        ray: (z, x) of the central ray in mm.
    """
    m = magnification(y)
    edges = np.arange(-300.0, 300.0, _LUNG_STEP_MM)
    crossed, rows, columns = np.histogram2d(
        ray[0] + m * (z - ray[0]), ray[1] + m * (x - ray[1]), (edges, edges)
    )
    visible = ndimage.gaussian_filter(crossed * _LUNG_STEP_MM, 0.7) >= _VISIBLE_LUNG_MM
    k, i = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    return np.array([[rows[k[0]], rows[k[-1] + 1]], [columns[i[0]], columns[i[-1] + 1]]])


def _sample(
    arrays: Sequence[np.ndarray], points: torch.Tensor, outside: Sequence[float]
) -> list[torch.Tensor]:
    """(D, H, W) float32 each: trilinear samples of arrays on the template's grid, computed on the differences
    from their value ``outside`` the body."""
    stacked = torch.empty((1, len(arrays), *arrays[0].shape))
    for into, values, value in zip(stacked[0], arrays, outside, strict=True):
        torch.sub(torch.from_numpy(values).float(), value, out=into)
    sampled = torch.nn.functional.grid_sample(stacked, points, padding_mode="border", align_corners=True)
    return [of + value for of, value in zip(sampled[0], outside, strict=True)]


def _average(values: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.avg_pool3d(values[None, None], _FINER)[0, 0].numpy()


def _nearest(labels: np.ndarray, points: torch.Tensor, view: _View) -> np.ndarray:
    """(D, H, W) uint8: labels at the centres of DEFAULT_GRID's voxels."""
    inside = points[0].permute(3, 0, 1, 2)
    centres = torch.stack([torch.from_numpy(_average(view.inside(component))) for component in inside], -1)
    tensor = torch.from_numpy(labels.astype(np.float32))[None, None]
    sampled = torch.nn.functional.grid_sample(
        tensor, centres[None], mode="nearest", padding_mode="border", align_corners=True
    )
    return sampled[0, 0].numpy().astype(np.uint8)


def _with_noise(hu: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Adds correlated CT noise of 10 to 25 HU on the rendering grid."""
    noise = generator.standard_normal(hu.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.3, 0.6, 0.6))
    sd = generator.uniform(10.0, 25.0)
    return (hu + torch.from_numpy(noise * np.float32(sd / noise.std()))).clamp(AIR_HU, 3071)
