"""Guidance by projection: a sample's map is optimised until the projected atlas agrees with the radiograph.

DiffuX2CT (Liu et al., ECCV 2024) applies a projection loss to the estimate of the clean volume. Here it acts
on the map into the atlas, at the end of sampling. It can therefore only move the atlas, not blur it or add
structures, and it moves it hardly along the rays, because only their divergence depends on depth.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from xray2ctpa_core.constants import DEPTH_FRACTION, MAP_GRID, MEAN_FRAME_SIDE_MM
from xray2ctpa_core.diffusion.residual import diffuses_a_map, sampled_map
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas, resized, warp
from xray2ctpa_core.models.protocols import Conditioning
from xray2ctpa_core.simulation.projection import RADIOGRAPH_DENSEST_HU, attenuation, project

#: (D, H, W) of the warped atlas that is projected.
_GRID = (64, 48, 64)
#: Points along an edge of the correction; few, so that it is smooth.
_POINTS = 7
#: Standard deviation of the correction's prior, (x, y, z) in half-widths of the atlas: about 5, 4 and 7 mm.
_PRIOR_STD = (0.03, 0.02, 0.04)
#: Weight of the prior beside the correlation.
_PRIOR_WEIGHT = 0.05
#: Adam's step in units of the prior's standard deviation.
_STEP = 0.17
#: Side in pixels of the window in which radiograph and projection are correlated; small, because their grey
#: curves differ.
_WINDOW = 5


def aligned_map(
    denoiser: Any,
    conditioning: Conditioning,
    diffused: torch.Tensor,
    image: torch.Tensor,
    hu_window: Sequence[float],
    spread: float,
    iterations: int,
) -> torch.Tensor | None:
    """The map into the atlas of one sample, corrected to agree with the radiograph.

    Args:
        denoiser, conditioning, diffused, spread: as in diffusion.residual.sampled_map, of one sample.
        image, hu_window, iterations: as in `align_map`.

    Returns:
        (1, 3, *MAP_GRID); None where the encoder has no atlas or the denoiser diffuses no map.
    """
    atlas = getattr(getattr(conditioning, "encoder", None), "atlas", None)
    if atlas is None or not diffuses_a_map(denoiser):
        return None
    start = sampled_map(denoiser, conditioning, diffused, spread)
    return align_map(atlas, start, image, hu_window, iterations)


def align_map(
    atlas: DeformableAtlas,
    template_map: torch.Tensor,
    image: torch.Tensor,
    hu_window: Sequence[float],
    iterations: int,
) -> torch.Tensor:
    """The map, corrected so that the projection of the warped atlas agrees with the radiograph.

    Computed on the CPU for every device, so that results are reproducible.

    Args:
        atlas: the atlas of the map.
        template_map: (1, 3, *MAP_GRID).
        image: (1, 1, P, P) in [0, 1], the frame of the radiograph.
        hu_window: (lower, upper) HU of the atlas' darkest and brightest voxels.
        iterations: steps of the optimisation; 0 changes nothing.

    Returns:
        (1, 3, *MAP_GRID) on the device of ``template_map``.
    """
    if iterations == 0:
        return template_map
    lower, upper = hu_window
    hu = atlas.intensities.cpu().float() / 255 * (upper - lower) + lower
    values = attenuation(hu.clamp(max=RADIOGRAPH_DENSEST_HU))[None, None]
    radiograph = functional.adaptive_avg_pool2d(image.detach().cpu().float(), (_GRID[0], _GRID[2]))
    start = template_map.detach().cpu().float()
    std = torch.tensor(_PRIOR_STD).reshape(1, 3, 1, 1, 1)
    with torch.enable_grad():
        correction = torch.zeros(1, 3, _POINTS, _POINTS, _POINTS, requires_grad=True)
        optimiser = torch.optim.Adam([correction], _STEP)
        for _ in range(iterations):
            seen = _projection(values, start + resized(correction * std, MAP_GRID))
            prior = correction.square().mean()
            loss = _PRIOR_WEIGHT * prior - _local_correlation(seen, radiograph)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return (start + resized(correction.detach() * std, MAP_GRID)).to(template_map)


def _projection(values: torch.Tensor, template_map: torch.Tensor) -> torch.Tensor:
    """(1, 1, D, W): line integrals through the warped atlas with the mean patient's geometry, rows from the
    top."""
    warped = warp(values, template_map, _GRID)
    depth = DEPTH_FRACTION * MEAN_FRAME_SIDE_MM
    planes = (torch.arange(_GRID[1]) + 0.5 - _GRID[1] / 2) * depth / _GRID[1]
    return project(warped[0, 0], planes, (0.0, 0.0)).flip(0)[None, None]


def _local_correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean correlation of two images (1, 1, V, U) in windows around each pixel."""

    def mean(image: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(image, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)

    first = first / first.detach().std().clamp(min=1e-6)
    covariance = mean(first * second) - mean(first) * mean(second)
    variances = [(mean(image * image) - mean(image) ** 2).clamp(min=1e-5) for image in (first, second)]
    return (covariance / (variances[0] * variances[1]).sqrt()).mean()
