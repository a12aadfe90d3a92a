"""The radiograph of a virtual patient: perspective projection of unenhanced attenuation, then exposure."""

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.constants import DETECTOR_TO_CENTRE_MM, SOURCE_TO_DETECTOR_MM

#: Linear attenuation of water at the mean energy of a 120 kVp chest beam, 1/mm (NIST XCOM, about 70 keV).
_WATER_PER_MM = 0.0193
#: Bone attenuates more than its CT number implies, because radiographs use softer beams (photoelectric
#: effect).
_BONE_GAIN = 1.25
#: Voxels of an enhanced volume are clipped to this HU, so that blood attenuates about as much as tissue:
#: radiographs are taken without contrast medium.
RADIOGRAPH_DENSEST_HU = 250.0


def attenuation(native_hu: torch.Tensor) -> torch.Tensor:
    """Linear attenuation in 1/mm from unenhanced HU, any shape."""
    relative = 1.0 + native_hu / 1000.0
    bone = (native_hu - 150.0).clamp(min=0.0) / 1000.0
    return _WATER_PER_MM * (relative + (_BONE_GAIN - 1.0) * bone).clamp(min=0.0)


def magnification(y: torch.Tensor | np.ndarray | float):  # type: ignore[no-untyped-def]
    """Magnification at depth y (mm, posterior of the thorax's middle) over that in the middle.

    PA radiograph: the detector touches the chest's front, the source stands behind the patient.
    """
    to_source = SOURCE_TO_DETECTOR_MM - DETECTOR_TO_CENTRE_MM
    return to_source / (to_source - y)


def project(values: torch.Tensor, depth_mm: torch.Tensor, ray: tuple[float, float]) -> torch.Tensor:
    """Sum of ``values`` along the rays of a PA radiograph, per millimetre of depth step.

    Args:
        values: (D, H, W) on an axial grid, k upwards, j to posterior, i to the left.
        depth_mm: (H,) y in mm of each coronal plane from the thorax's middle.
        ray: (z, x) of the central ray, in grid_sample units of the coronal plane ([-1, 1], k and i).

    Returns:
        (D, W) line integrals (value x mm), rows still k upwards, in the plane through the middle.
    """
    planes = values.permute(1, 0, 2)[:, None]
    depth, height, width = planes.shape[0], values.shape[0], values.shape[2]
    m = magnification(depth_mm).to(values)[:, None, None]
    v = (torch.arange(height, device=values.device) * 2 + 1.0) / height - 1
    u = (torch.arange(width, device=values.device) * 2 + 1.0) / width - 1
    grid_v = (ray[0] + (v[None, :, None] - ray[0]) / m).expand(depth, height, width)
    grid_u = (ray[1] + (u[None, None, :] - ray[1]) / m).expand(depth, height, width)
    where = torch.stack([grid_u, grid_v], -1)
    sampled = torch.nn.functional.grid_sample(planes, where, padding_mode="border", align_corners=False)
    step = (depth_mm[1] - depth_mm[0]).abs().to(values)
    return sampled.sum((0, 1)) * step


def develop(line_integrals: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Turns line integrals into a radiograph in [0, 1]: scatter, detector blur, quantum noise, then the
    processing of a workstation: detail enhancement at two scales and an S-curve.

    Args:
        line_integrals: (rows, columns) float32, attenuation x length, rows from the top.
        generator: draws the exposure.
    """
    scatter = generator.uniform(0.15, 0.45)
    primary = np.exp(-line_integrals)
    veil = ndimage.gaussian_filter(primary, 0.08 * line_integrals.shape[0])
    detected = (1 - scatter) * primary + scatter * veil
    detected = ndimage.gaussian_filter(detected, generator.uniform(0.3, 0.7))
    photons = 10 ** generator.uniform(4.2, 5.2)
    detected = np.maximum(generator.poisson(detected * photons), 1) / photons
    density = -np.log(detected)
    for reach, strongest in ((0.05, 1.6), (0.012, 0.8)):
        gain = generator.uniform(0.2, strongest)
        density = density + gain * (density - ndimage.gaussian_filter(density, reach * density.shape[0]))
    low, high = np.quantile(density, (0.01, 0.99))
    centre, width = (
        low + (high - low) * generator.uniform(0.42, 0.58),
        (high - low) * generator.uniform(0.2, 0.3),
    )
    return (1.0 / (1.0 + np.exp(-(density - centre) / width))).astype(np.float32)
