"""Masks of a virtual patient's visible radiographic signs, used as targets in training."""

import numpy as np
import torch
from torch.nn import functional

from xray2ctpa_core.constants import DEPTH_FRACTION, MEAN_FRAME_SIDE_MM, SHADOW_GRID
from xray2ctpa_core.simulation.deformation import ORGAN_REACHES, organ_centres
from xray2ctpa_core.simulation.projection import magnification
from xray2ctpa_core.simulation.signs import SIGNS
from xray2ctpa_core.simulation.template import Template

#: Signs that consist in an organ's size, with the organ at which they are visible.
_ORGAN_OF = {"cardiomegaly": "heart", "fleischner": "trunk", "hilum": "hila"}


def sign_bits(template: Template, signs: dict[str, bool], shown: dict[str, np.ndarray]) -> np.ndarray:
    """(D, H, W) uint8 on the template's grid: bit i is set where SIGNS[i] is visible.

    Args:
        template: gives the positions of the organs whose size is a sign.
        signs: presence of each sign in the patient.
        shown: for each sign in the lungs, (D, H, W) bool, its voxels (appearance.Findings).
    """
    bits = np.zeros(template.hu.shape, np.uint8)
    for number, sign in enumerate(SIGNS):
        if not signs[sign.name]:
            continue
        where = _near(template, _ORGAN_OF[sign.name]) if sign.name in _ORGAN_OF else shown[sign.name]
        bits[where] |= np.uint8(1 << number)
    return bits


def sign_shadows(bits: np.ndarray, template_map: torch.Tensor) -> np.ndarray:
    """(*SHADOW_GRID,) uint8: bits of the signs along the rays through each cell of the frame.

    Args:
        bits: of `sign_bits`.
        template_map: (3, *MAP_GRID) of the frame (Patient.template_map), float32.
    """
    rows, columns = SHADOW_GRID
    points = functional.interpolate(
        template_map[None], size=(rows, 48, 2 * columns), mode="trilinear", align_corners=True
    )
    seen = functional.grid_sample(
        torch.from_numpy(bits.astype(np.float32))[None, None],
        points.permute(0, 2, 3, 4, 1),
        mode="nearest",
        align_corners=True,
    )[0, 0].to(torch.uint8)
    where = torch.nonzero(seen)
    # From the middle of the frame, in units of its side; rays diverge as in models.encoders.rays.
    z, y, x = ((where[:, axis] + 0.5) / n - 0.5 for axis, n in enumerate(seen.shape))
    m = magnification(y * DEPTH_FRACTION * MEAN_FRAME_SIDE_MM)
    row = ((0.5 - m * z) * rows).long().clamp(0, rows - 1)
    column = ((0.5 + m * x) * columns).long().clamp(0, columns - 1)
    shadows = np.zeros(SHADOW_GRID, np.uint8)
    np.bitwise_or.at(shadows, (row.numpy(), column.numpy()), seen[tuple(where.T)].numpy())
    return shadows


def sign_masks(bits: np.ndarray) -> np.ndarray:
    """(len(SIGNS), *bits.shape) bool, the masks in a bit map of `sign_bits` or `sign_shadows`."""
    return np.stack([(bits >> number) & 1 for number in range(len(SIGNS))]).astype(bool)


def _near(template: Template, organ: str) -> np.ndarray:
    """(D, H, W) bool: the region in which the organ's size is changed."""
    inside = np.zeros(template.hu.shape, bool)
    for centre in organ_centres(template, organ):
        z, y, x = (
            (np.arange(n) - c - at / step) * step / reach
            for n, c, at, step, reach in zip(
                template.hu.shape,
                template.centre,
                centre,
                template.spacing,
                ORGAN_REACHES[organ],
                strict=True,
            )
        )
        inside |= z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 1.0
    return inside
