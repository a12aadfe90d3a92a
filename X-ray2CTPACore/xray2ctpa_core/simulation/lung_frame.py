"""The frame that a radiograph of a CT's person would be given: a square around the lungs that it shows."""

from dataclasses import dataclass

import numpy as np
import torch

from xray2ctpa_core.constants import FRAME_MARGIN
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.preprocessing.grid import resample_onto
from xray2ctpa_core.simulation.projection import project
from xray2ctpa_core.volume import Volume, axial_affine

#: Side of the cube in which the lungs are looked at from the front, and its step, mm.
CUBE_MM, STEP_MM = 400.0, 4.0
#: A ray through this much lung shows it as lung, mm.
VISIBLE_LUNG_MM = 35.0
#: The body's middle lies this far in front of the lungs' (breast and sternum against the back), mm.
BODY_BEFORE_LUNGS_MM = 16.0


@dataclass(frozen=True)
class LungFrame:
    """Where the frame lies in the CT.

    Attributes:
        side: of the square, mm: FRAME_MARGIN times the longer side of what the radiograph shows of the lungs.
        centre: its middle (x, y, z) in LPS mm.
        ray: (z, x) of the central ray from it, mm: through the middle of the lungs.
    """

    side: float
    centre: tuple[float, float, float]
    ray: tuple[float, float]

    def affine(self, shape: tuple[int, int, int], depth_fraction: float) -> np.ndarray:
        """(4, 4) LPS affine of a grid (D, H, W) that fills the frame, ``depth_fraction`` sides deep."""
        return axial_affine(shape, (self.side, depth_fraction * self.side, self.side), self.centre)


def lung_frame(lungs: Volume) -> LungFrame:
    """The frame of a CT.

    Args:
        lungs: their mask, above 0 inside; axial.

    Raises:
        InputError: no lungs that a radiograph would show.
    """
    places = np.argwhere(lungs.array)[:, ::-1]  # (i, j, k)
    if not len(places):
        raise InputError("Expected lungs that a radiograph shows, got none.")
    points = places @ lungs.affine[:3, :3].T + lungs.affine[:3, 3]
    low, high = points.min(axis=0), points.max(axis=0)
    x, y, z = (low + high) / 2
    y -= BODY_BEFORE_LUNGS_MM
    count = round(CUBE_MM / STEP_MM)
    cube = axial_affine((count,) * 3, (CUBE_MM,) * 3, (x, y, z))
    seen = torch.from_numpy(resample_onto(lungs, cube, (count,) * 3, 0.0).array)
    depth = (torch.arange(count) + 0.5 - count / 2) * STEP_MM
    visible = project(seen, depth, (0.0, 0.0)).numpy() >= VISIBLE_LUNG_MM
    if not visible.any():
        raise InputError("Expected lungs that a radiograph shows, got none.")
    ends = [np.flatnonzero(visible.any(axis=axis))[[0, -1]] + (0, 1) for axis in (1, 0)]
    (bottom, top), (right, left) = ((e - count / 2) * STEP_MM for e in ends)
    side = FRAME_MARGIN * max(top - bottom, left - right)
    off = ((bottom + top) / 2, (right + left) / 2)
    centre = (float(x + off[1]), float(y), float(z + off[0]))
    return LungFrame(float(side), centre, (-float(off[0]), -float(off[1])))


def continued(ct: Volume, margin_mm: float) -> Volume:
    """The CT with its outermost voxels repeated ``margin_mm`` in every direction: a frame may be larger than
    the scan."""
    pad = [int(np.ceil(margin_mm / s)) for s in ct.spacing]
    affine = ct.affine.copy()
    affine[:3, 3] -= ct.affine[:3, :3] @ np.array(pad)
    return Volume(np.pad(ct.array, [(p, p) for p in reversed(pad)], mode="edge"), affine)
