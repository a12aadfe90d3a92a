"""Real people's CTs: the frame, the volume on a bundle's grid, a radiograph computed from the CT itself."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.constants import (
    AIR_HU,
    DETECTOR_TO_CENTRE_MM,
    FRAME_PIXELS,
    SOURCE_TO_DETECTOR_MM,
)
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.grid_file import grid_sha256
from xray2ctpa_core.io.names import VOLUME_SUFFIXES
from xray2ctpa_core.pipelines.bundle import GeometryRule
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.preprocessing.grid import resample_onto, to_axial
from xray2ctpa_core.preprocessing.lungs import segment_lungs
from xray2ctpa_core.simulation.lung_frame import continued, lung_frame
from xray2ctpa_core.simulation.projection import attenuation, develop, project
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume, axial_affine

#: The radiograph shows this much more than the frame, in each direction.
RADIOGRAPH_MARGIN = 1.25
#: Voxels of the grid that is projected: (up, along the rays, across).
PROJECTED = (160, 128, 160)
#: A scan is continued by its outermost voxels up to here, mm: a frame may be larger than it.
CONTINUED_MM = 150.0
#: HU of unenhanced blood; a mediastinum of at least this median is enhanced.
BLOOD_HU, ENHANCED_HU = 50.0, 70.0
#: The spine: behind this share of the lungs' depth, from 30 mm right to 12 mm left of the middle (the aorta
#: descends on the left).
SPINE_FROM, SPINE_MM = 0.62, (-30.0, 12.0)


@dataclass(frozen=True)
class _Prepared:
    """What is made of a person's CT."""

    volume: Volume
    radiograph: Radiograph
    enhanced: bool


class Person:
    """A person's CT as a Subject (evaluation.patients); read on first use and kept.

    The radiograph is a perspective projection of the unenhanced CT (`unenhanced`) with the exposure that the
    file's digest draws; the frame is the true one, FRAME_MARGIN times the lungs that it shows.

    Args:
        file: NIfTI, NRRD or MetaImage, HU.
        geometry: of the bundle, whose grid and depth the volume takes.
    """

    def __init__(self, file: Path, geometry: GeometryRule) -> None:
        self._file, self._geometry = Path(file), geometry
        self.name = name_of(self._file)

    @cached_property
    def identity(self) -> str:
        """12 hex digits of the file and the grid."""
        text = f"{grid_sha256(self._file)} {self._geometry.grid} {self._geometry.depth_fraction}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def volume(self) -> Volume:
        """The CT in the frame, float32 HU on the bundle's grid."""
        return self._prepared.volume

    @property
    def hu(self) -> np.ndarray:
        """(D, H, W) float32 HU."""
        return self.volume.array

    @property
    def radiograph(self) -> Radiograph:
        """Computed from the CT."""
        return self._prepared.radiograph

    @property
    def enhanced(self) -> bool:
        """Whether the CT shows contrast medium."""
        return self._prepared.enhanced

    @property
    def frame(self) -> FrontalFrame:
        """In pixels of the radiograph."""
        edge = (RADIOGRAPH_MARGIN - 1) / 2 * FRAME_PIXELS
        return FrontalFrame(edge, edge, float(FRAME_PIXELS))

    def frame_image(self, size: int) -> np.ndarray:
        """(size, size) float32 in [0, 1]: the radiograph's frame as the networks read it."""
        return frame_image(self.radiograph.pixels, self.frame, size)

    def fresh(self) -> "Person":
        """The same: a person takes seconds to prepare and megabytes to keep."""
        return self

    def _read(self) -> Volume:
        return read_ct(self._file).volume

    @cached_property
    def _prepared(self) -> _Prepared:
        try:
            stored = to_axial(self._read())
            ct = stored.with_array(stored.array.astype(np.float32))
            lungs, _ = segment_lungs(ct, "threshold")
            frame = lung_frame(ct.with_array(lungs.astype(np.float32)))
            native, enhanced = unenhanced(ct, lungs)
        except InputError as error:
            raise InputError(f"{self._file.name}: {error.message}", error.hint) from error
        depth, height, width = self._geometry.grid
        fixed = self._geometry.extent_mm
        deep = fixed[1] / fixed[0] if fixed else self._geometry.depth_fraction
        affine = frame.affine((depth, height, width), deep)
        volume = resample_onto(continued(ct, CONTINUED_MM), affine, (depth, height, width))
        generator = np.random.default_rng(int(self.identity, 16))
        side = frame.side
        wide = (RADIOGRAPH_MARGIN * side, deep * side, RADIOGRAPH_MARGIN * side)
        pixels = _radiograph(native, wide, frame.centre, frame.ray, generator)
        spacing = (
            side / FRAME_PIXELS * SOURCE_TO_DETECTOR_MM / (SOURCE_TO_DETECTOR_MM - DETECTOR_TO_CENTRE_MM)
        )
        radiograph = Radiograph(
            pixels, (spacing, spacing), "ImagerPixelSpacing", f"{self.name}, computed", view="PA"
        )
        return _Prepared(volume, radiograph, enhanced)


def name_of(file: Path) -> str:
    """The person's name: the file's without its suffix."""
    suffix = next((s for s in VOLUME_SUFFIXES if file.name.endswith(s)), "")
    return file.name.removesuffix(suffix)


def people_below(folders: Sequence[Path]) -> list[Path]:
    """The CT files in folders of any depth, by name.

    Raises:
        InputError: none there, or two of one name.
    """
    files = sorted(
        (
            f
            for folder in folders
            for f in Path(folder).rglob("*")
            if f.name.endswith(VOLUME_SUFFIXES) and f.is_file()
        ),
        key=lambda file: file.name,
    )
    if not files:
        raise InputError(
            f"Expected people's CTs ({', '.join(VOLUME_SUFFIXES)}) below {', '.join(map(str, folders))}, "
            "found none."
        )
    names = [name_of(file) for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"Expected each person once, got {', '.join(twice)} more often.", "Rename a file.")
    return files


def unenhanced(ct: Volume, lungs: np.ndarray) -> tuple[Volume, bool]:
    """The CT without contrast medium, as a radiograph shows the person, and whether there was any.

    What lies inside or between the lungs and not in the spine is at most as dense as blood. A rule of places:
    some contrast medium is left beside the spine and below the lungs, and calcium is lost.

    Args:
        ct: HU, axial.
        lungs: (D, H, W) bool, with their vessels.
    """
    from_right = np.maximum.accumulate(lungs, axis=2)
    from_left = np.maximum.accumulate(lungs[:, :, ::-1], axis=2)[:, :, ::-1]
    inside = from_right & from_left
    rows, columns = (np.flatnonzero(lungs.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    behind = np.arange(lungs.shape[1]) >= rows[0] + SPINE_FROM * (rows[-1] - rows[0])
    off_middle = (np.arange(lungs.shape[2]) - (columns[0] + columns[-1]) / 2) * ct.spacing[0]
    middle = (off_middle > SPINE_MM[0]) & (off_middle < SPINE_MM[1])
    inside &= ~(behind[:, None] & middle)
    soft = ct.array[inside & ~lungs & (ct.array > -BLOOD_HU)]
    if soft.size == 0 or np.median(soft) < ENHANCED_HU:
        return ct, False
    return ct.with_array(np.where(inside, np.minimum(ct.array, BLOOD_HU), ct.array)), True


def _radiograph(
    native: Volume,
    extent: tuple[float, float, float],
    centre: tuple[float, float, float],
    ray: tuple[float, float],
    generator: np.random.Generator,
) -> np.ndarray:
    """(P, P) float32 in [0, 1], rows from the top, of ``extent`` mm (z, y, x) around ``centre``."""
    affine = axial_affine(PROJECTED, extent, centre)
    grid = resample_onto(continued(native, CONTINUED_MM), affine, PROJECTED, AIR_HU)
    depth = (torch.arange(PROJECTED[1]) + 0.5 - PROJECTED[1] / 2) * extent[1] / PROJECTED[1]
    central = (ray[0] * 2 / extent[0], ray[1] * 2 / extent[2])
    lines = project(attenuation(torch.from_numpy(grid.array)), depth, central).flip(0)
    pixels = round(RADIOGRAPH_MARGIN * FRAME_PIXELS)
    square = torch.nn.functional.interpolate(
        lines[None, None], size=(pixels, pixels), mode="bilinear", align_corners=False
    )
    return develop(square[0, 0].numpy(), generator)
