"""Lifting a radiograph's features along the rays into the latent grid.

A point of the patient and its projection on the radiograph lie on one ray from the source. In the plane
through the thorax's middle the projection of (x, y, z) is m(y) * (x, z), m(y) = s / (s - y), with s the
distance from source to that plane and y increasing to posterior (PA radiograph: source behind, detector in
front).
"""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.constants import (
    DEPTH_FRACTION,
    DETECTOR_TO_CENTRE_MM,
    MEAN_FRAME_SIDE_MM,
    SOURCE_TO_DETECTOR_MM,
)


class RayLift(nn.Module):
    """Resamples the feature map of each depth along the rays into the latent grid.

    Args:
        depth_planes: coronal planes H of the latent grid.
        frame_side_mm: side of the frontal frame in mm; its perspective is that of the mean patient.
    """

    def __init__(self, depth_planes: int, frame_side_mm: float = MEAN_FRAME_SIDE_MM) -> None:
        super().__init__()
        to_source = SOURCE_TO_DETECTOR_MM - DETECTOR_TO_CENTRE_MM
        planes = (torch.arange(depth_planes) + 0.5) / depth_planes - 0.5
        magnification = to_source / (to_source - planes * DEPTH_FRACTION * frame_side_mm)
        self.magnification: torch.Tensor
        self.register_buffer("magnification", magnification, persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Args: features: (B, C, H, V, U), a map on the radiograph for every depth plane, rows from the top.

        Returns:
            (B, C, V, H, U) = (B, C, D, H, W) with D from inferior to superior.
        """
        batch, channels, depth, rows, columns = features.shape
        if not batch:
            return features.new_zeros(0, channels, rows, depth, columns)
        v = 1 - (torch.arange(rows, device=features.device) * 2 + 1.0) / rows
        u = (torch.arange(columns, device=features.device) * 2 + 1.0) / columns - 1
        m = self.magnification.to(torch.float32)[:, None, None]
        # Coordinates need single precision. They are clamped to the outer pixels' centres, because not every
        # device supports border padding.
        across = (m * u[None, None]).clamp(1 / columns - 1, 1 - 1 / columns).expand(-1, rows, -1)
        upwards = (m * v[None, :, None]).clamp(1 / rows - 1, 1 - 1 / rows).expand(-1, -1, columns)
        where = torch.stack([across, upwards], -1).repeat(batch, 1, 1, 1)
        planes = features.transpose(1, 2).flatten(0, 1)
        lifted = functional.grid_sample(planes.float(), where, align_corners=False).to(features.dtype)
        return lifted.unflatten(0, (batch, depth)).permute(0, 2, 3, 1, 4)
