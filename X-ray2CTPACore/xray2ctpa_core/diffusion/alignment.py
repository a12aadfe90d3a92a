"""Guidance by projection: a sample's map is optimised until the projected atlas agrees with the radiograph.

DiffuX2CT (Liu et al., ECCV 2024) applies a projection loss to the estimate of the clean volume. Here it acts
on the map into the atlas, at the end of sampling. It can therefore only move the atlas, not blur it or add
structures, and it moves it hardly along the rays, because only their divergence depends on depth.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from xray2ctpa_core.constants import DEPTH_FRACTION, MAP_GRID, MEAN_FRAME_SIDE_MM
from xray2ctpa_core.diffusion.lookup import Lookup
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas, resized
from xray2ctpa_core.models.on_device import along_channels
from xray2ctpa_core.simulation.projection import RADIOGRAPH_DENSEST_HU, attenuation, magnification

#: (D, H, W) of the warped atlas that is projected.
_GRID = (64, 48, 64)
#: Points along an edge of the correction; few, so that it is smooth.
_POINTS = 7
#: Standard deviation of the correction's prior, (x, y, z) in half-widths of the atlas: about 5, 4 and 7 mm.
_PRIOR_STD = (0.03, 0.02, 0.04)
#: Weight of the prior beside the correlation.
_PRIOR_WEIGHT = 0.05
#: Adam's step in units of the prior's standard deviation, its decays and what it adds to a divisor.
_STEP, _BETAS, _EPSILON = 0.17, (0.9, 0.999), 1e-8
#: Side in pixels of the window in which radiograph and projection are correlated; small, because their grey
#: curves differ.
_WINDOW = 5


def align_map(
    atlas: DeformableAtlas,
    template_map: torch.Tensor,
    image: torch.Tensor,
    hu_window: Sequence[float],
    iterations: int,
) -> torch.Tensor:
    """The maps, each corrected so that the projection of the warped atlas agrees with the radiograph.

    Computed on the device of the maps. On a CPU they are optimised one after another, so that rounding
    errors, which the optimisation amplifies, depend neither on their number nor on the threads. On other
    devices they are optimised together, without synchronisation; gradients are summed in a fixed order.

    Args:
        atlas: the atlas of the maps.
        template_map: (K, 3, *MAP_GRID).
        image: (K, 1, P, P) in [0, 1], the frame of each map's radiograph; or (1, 1, P, P), of all.
        hu_window: (lower, upper) HU of the atlas' darkest and brightest voxels.
        iterations: steps of the optimisation; 0 changes nothing.

    Returns:
        (K, 3, *MAP_GRID).
    """
    if iterations == 0:
        return template_map
    start = template_map.detach().float()
    small = functional.adaptive_avg_pool2d(image.detach().to(start), (_GRID[0], _GRID[2]))
    small = small.expand(len(start), -1, -1, -1)
    values = _values(atlas, hu_window, start.device)
    at_once = 1 if start.device.type == "cpu" else len(start)
    aligned = [
        _aligned(_View(values, some), some, _Likeness(images), iterations)
        for some, images in zip(start.split(at_once), small.split(at_once), strict=True)
    ]
    return torch.cat(aligned).to(template_map)


def _aligned(seen: "_View", start: torch.Tensor, likeness: "_Likeness", iterations: int) -> torch.Tensor:
    """``start`` (K, 3, *MAP_GRID), changed until it looks like the radiograph, each for itself.

    By Adam (Kingma and Ba, ICLR 2015, algorithm 1); torch's makes a tensor on the CPU in each step.
    """
    std = along_channels(_PRIOR_STD, start)
    correction = torch.zeros(len(start), 3, *(_POINTS,) * 3, device=start.device)
    m, v = torch.zeros_like(correction), torch.zeros_like(correction)
    for t in range(1, iterations + 1):
        with torch.enable_grad():
            tried = correction.clone().requires_grad_()
            prior = tried.square().mean((1, 2, 3, 4))
            loss = (_PRIOR_WEIGHT * prior - likeness(seen(tried * std))).sum()
            (gradient,) = torch.autograd.grad(loss, tried)
        m.lerp_(gradient, 1 - _BETAS[0])
        v.lerp_(gradient.square(), 1 - _BETAS[1])
        spread = v.sqrt() / (1 - _BETAS[1] ** t) ** 0.5
        correction.addcdiv_(m, spread.add_(_EPSILON), value=-_STEP / (1 - _BETAS[0] ** t))
    return start + resized(correction * std, MAP_GRID)


def _values(atlas: DeformableAtlas, hu_window: Sequence[float], device: torch.device) -> torch.Tensor:
    """(1, 1, D, H, W): the atlas' attenuation as a radiograph shows it, in 1/mm."""
    lower, upper = hu_window
    hu = atlas.intensities.to(device).float() / 255 * (upper - lower) + lower
    return attenuation(hu.clamp(max=RADIOGRAPH_DENSEST_HU))[None, None]


def _planes(device: torch.device) -> torch.Tensor:
    """(H,) mm of the coronal planes from the thorax's middle, of the mean patient."""
    depth = DEPTH_FRACTION * MEAN_FRAME_SIDE_MM
    return (torch.arange(_GRID[1], device=device) + 0.5 - _GRID[1] / 2) * depth / _GRID[1]


class _View:
    """What an atlas looks like from the front under K maps that are changed, by products of matrices and one
    look-up in the atlas: the gradients of other look-ups a GPU sums in any order.

    A coronal plane is drawn out by its magnification, which is a product with a matrix from either side
    (simulation.projection.project does it by look-ups).

    Args:
        values: (1, 1, D, H, W) of the atlas.
        start: (K, 3, *MAP_GRID).
    """

    def __init__(self, values: torch.Tensor, start: torch.Tensor) -> None:
        self._values, self._points = values, resized(start, _GRID)
        self._finer = [_through(_POINTS, MAP_GRID[axis], _GRID[axis], start.device) for axis in range(3)]
        planes = _planes(start.device)
        enlarged = magnification(planes)
        rows, self._columns = (_drawn_out(_GRID[axis], enlarged) for axis in (0, 2))
        #: (H, D, D): a plane's rows from the top, each from all of its rows.
        self._rows = rows.mT.flip(1) * (planes[1] - planes[0])

    def __call__(self, change: torch.Tensor) -> torch.Tensor:
        """Changes of the maps at the points, (K, 3, 7, 7, 7) -> (K, 1, D, W) line integrals, rows from the
        top."""
        warped = self._at(self._points + _interpolated(change, self._finer))
        wide = torch.matmul(warped.transpose(1, 2), self._columns)
        return torch.matmul(self._rows, wide).sum(1, keepdim=True)

    def _at(self, points: torch.Tensor) -> torch.Tensor:
        """(K, 3, D, H, W) -> (K, D, H, W): the atlas' values there."""
        if points.device.type == "cpu":
            return Lookup.apply(self._values[0, 0], points)
        values = self._values.expand(len(points), -1, -1, -1, -1)
        where = points.permute(0, 2, 3, 4, 1)
        return functional.grid_sample(values, where, padding_mode="border", align_corners=True)[:, 0]


class _Likeness:
    """Mean correlation of K images with others (K, 1, V, U) in windows around each pixel."""

    def __init__(self, image: torch.Tensor) -> None:
        self._image, self._mean = image, _window_mean(image)
        self._variance = (_window_mean(image * image) - self._mean**2).clamp(min=1e-5)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(K, 1, V, U) -> (K,)."""
        scaled = images / images.detach().std((1, 2, 3), keepdim=True).clamp(min=1e-6)
        covariance = _window_mean(scaled * self._image) - _window_mean(scaled) * self._mean
        variance = (_window_mean(scaled * scaled) - _window_mean(scaled) ** 2).clamp(min=1e-5)
        return (covariance / (variance * self._variance).sqrt()).mean((1, 2, 3))


def _window_mean(image: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(image, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)


def _through(points: int, between: int, end: int, device: torch.device) -> torch.Tensor:
    """(points, end): linear interpolation to ``between`` places, and from them to ``end``, as `resized`."""
    unit = torch.eye(points, device=device)[None]
    for size in (between, end):
        unit = functional.interpolate(unit, size=size, mode="linear", align_corners=True)
    return unit[0]


def _interpolated(values: torch.Tensor, finer: Sequence[torch.Tensor]) -> torch.Tensor:
    """(K, 3, z, y, x) by a matrix (points, places) for each axis -> (K, 3, D, H, W)."""
    depth, height, width = finer
    values = torch.matmul(values, width)
    values = torch.matmul(height.T, values)
    return torch.matmul(depth.T, values.flatten(3)).unflatten(3, values.shape[3:])


def _drawn_out(size: int, enlarged: torch.Tensor) -> torch.Tensor:
    """(H, size, size): what a line of ``size`` cells gives to each cell of it drawn out about its middle, for
    H magnifications; linear interpolation, the border goes on."""
    cells = torch.arange(size, device=enlarged.device)
    where = (((cells * 2 + 1.0) / size - 1) / enlarged[:, None] + 1) * size / 2 - 0.5
    where = where.clamp(0, size - 1)[:, None]
    return (1 - (where - cells[:, None]).abs()).clamp(min=0)
