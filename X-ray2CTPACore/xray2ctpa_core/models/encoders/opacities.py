"""Opacities that a radiograph shows, put into the lungs of a sample's volume.

A radiograph tells how much of the lung along a ray is filled, not where along it. Fluid lies behind, as in a
patient who lies on their back in a CT scanner; a consolidation fills a part of the lung's depth as thick as
the radiograph tells, at a depth that each sample draws.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from xray2ctpa_core.constants import DEPTH_FRACTION, MEAN_FRAME_SIDE_MM
from xray2ctpa_core.models.encoders.atlas_bank import body_of
from xray2ctpa_core.models.encoders.opacity_reader import PUT_IN
from xray2ctpa_core.models.hu import denormalise_hu, normalise_hu
from xray2ctpa_core.simulation.opacities import OPACITY_HU, filled
from xray2ctpa_core.simulation.projection import magnification

#: A voxel is lung below this, HU; those beside lung are filled as well below the first of the next, and not
#: above the second.
_LUNG_HU, _EDGE_HU = -400.0, (-150.0, -50.0)
#: Voxels over which lungs are averaged twice before their depth is measured: vessels do not count.
_SMOOTH = 7
#: Share of air that a consolidation leaves in the lung.
_AERATED = 0.2
#: Soft edges of fluid and of a consolidation, as a share of the lung's depth.
_FLUID_EDGE, _EDGE = 0.03, 0.05
#: Filled shares below this fade out.
_LEAST = 0.05
#: Nodes along an axis of the noise that draws depths and makes a consolidation mottled.
_DEPTH_NODES, _TEXTURE_NODES = 4, 20
#: Shape of the noise of a sample.
NOISE = (1, _TEXTURE_NODES, _TEXTURE_NODES, _TEXTURE_NODES)


class _Lung(NamedTuple):
    """share: (B, 1, D, H, W) that can be filled; before: share of the lung in front of a voxel, 0..1."""

    share: torch.Tensor
    before: torch.Tensor


def with_opacities(
    volumes: torch.Tensor, shares: torch.Tensor, noise: torch.Tensor, hu_window: Sequence[float]
) -> torch.Tensor:
    """Volumes (B, 1, D, H, W) in [-1, 1] of ``hu_window``, with opacities.

    Args:
        volumes: axes foot to head, front to back, patient's right to left.
        shares: (B, 2, h, w), of OpacityReader.shares, rows from the top.
        noise: (B, *NOISE) standard normal, of each sample.
        hu_window: (lower, upper) HU.
    """
    hu = denormalise_hu(volumes.float(), hu_window)
    lung = _lung(hu, volumes)
    fluid, dense = _along_rays(shares, volumes.shape[2:]).split(1, 1)
    texture = _texture(noise, volumes.shape[2:])
    extent = (dense / (1 - _AERATED)).clamp(0, 1)
    centre = extent / 2 + (1 - extent) * _depths(noise, volumes.shape[2:])
    thick = extent * (1 + 0.6 * texture)
    patch = torch.sigmoid((thick / 2 - (lung.before - centre).abs()) / _EDGE) * _there(extent)
    layer = torch.sigmoid((lung.before - (1 - fluid)) / _FLUID_EDGE) * _there(fluid)
    for share, value in zip((layer, (1 - _AERATED) * patch), OPACITY_HU[:PUT_IN], strict=True):
        hu = filled(hu, lung.share * share, value)
    return normalise_hu(hu, hu_window).clamp(-1, 1)


def _lung(hu: torch.Tensor, volumes: torch.Tensor) -> _Lung:
    lung = (hu < _LUNG_HU).float() * body_of(volumes)
    lower, upper = _EDGE_HU
    share = functional.max_pool3d(lung, 3, 1, 1) * ((upper - hu) / (upper - lower)).clamp(0, 1)
    smooth = lung
    for axis in (0, 1, 2, 0, 1, 2):  # one after another: a box of all three takes many times as long
        kernel, pad = [1, 1, 1], [0, 0, 0]
        kernel[axis], pad[axis] = _SMOOTH, _SMOOTH // 2
        smooth = functional.avg_pool3d(smooth, kernel, 1, pad)
    summed = smooth.cumsum(3)
    return _Lung(share, (summed - smooth / 2) / summed[:, :, :, -1:].clamp(min=1))


def _texture(noise: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(B, 1, D, H, W): ``noise`` at two scales, of standard deviation 1 or less."""
    few = functional.adaptive_avg_pool3d(noise, _TEXTURE_NODES // 2) * 2
    parts = [
        functional.interpolate(part, size=size, mode="trilinear", align_corners=True) for part in (few, noise)
    ]
    return (parts[0] + parts[1]) / 2**0.5


def _there(extent: torch.Tensor) -> torch.Tensor:
    return (extent / _LEAST).clamp(0, 1)


def _depths(noise: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(B, 1, D, 1, W) in 0..1: where in the depth a consolidation lies, smooth over the radiograph."""
    few = functional.adaptive_avg_pool2d(noise.mean(3), (_DEPTH_NODES, _DEPTH_NODES))
    few = few / few.std((2, 3), keepdim=True).clamp(min=1e-6)
    field = functional.interpolate(few, size=(size[0], size[2]), mode="bicubic", align_corners=True)
    return torch.sigmoid(1.5 * field)[:, :, :, None]


def _along_rays(shares: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(B, 2, D, H, W): the value of the ray through each voxel, in the perspective of the mean frame."""
    depth, planes, width = size
    place = (torch.arange(planes, device=shares.device) + 0.5) / planes - 0.5
    enlarged = magnification(place * DEPTH_FRACTION * MEAN_FRAME_SIDE_MM)[:, None]
    rows = -((torch.arange(depth, device=shares.device) * 2 + 1.0) / depth - 1) * enlarged
    columns = ((torch.arange(width, device=shares.device) * 2 + 1.0) / width - 1) * enlarged
    where = torch.stack(
        [columns[:, None].expand(-1, depth, -1), rows[:, :, None].expand(-1, -1, width)], -1
    ).flatten(0, 1)
    found = functional.grid_sample(
        shares, where[None].expand(len(shares), -1, -1, -1), padding_mode="border", align_corners=False
    )
    return found.unflatten(2, (planes, depth)).transpose(2, 3)
