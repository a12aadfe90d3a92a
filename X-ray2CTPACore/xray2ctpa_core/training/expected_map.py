"""Where tissue lies, read off a radiograph in closed form: ridge regression of the map into a bank of atlases
and of the coarse volume, and the map whose bent bank is nearest to that volume.

A bent bank is sharp. Of all sharp volumes the one with the least expected squared error is the one nearest to
the expected volume, for E|b - v|^2 = |b - E v|^2 + Var v.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from xray2ctpa_core.models.encoders.atlas import resized

#: Nodes along an edge at which maps are regressed: they are smooth. Directions in which a map is moved.
NODES, DIRECTIONS = 8, 100
#: Step of the optimisation and weight of the prior, in standard deviations.
_STEP, _PRIOR = 0.08, 1e-3


@dataclass(frozen=True)
class Expectation:
    """What is expected of one radiograph.

    Attributes:
        template_map: (1, 3, d, h, w), in grid_sample coordinates of the bank.
        volume: (D, H, W) in [-1, 1], coarse.
        directions: (K, 3, NODES, NODES, NODES), in which maps differ most, a standard deviation long.
    """

    template_map: torch.Tensor
    volume: torch.Tensor
    directions: torch.Tensor


class MapRegression:
    """Ridge regression in its dual form, solved once for all weights of the regularisation.

    Args:
        features: (N, F) of radiographs.
        maps: (N, 3, d, h, w).
        volumes: (N, D, H, W), coarse.
    """

    def __init__(self, features: torch.Tensor, maps: torch.Tensor, volumes: torch.Tensor) -> None:
        self._middle = features.mean(0)
        self._features = features - self._middle
        self._mean_map, self._mean_volume = maps.mean(0), volumes.mean(0)
        change = resized(maps - self._mean_map, (NODES,) * 3).flatten(1)
        self._mean_change = change.mean(0)
        self._change = change - self._mean_change
        self._volumes = (volumes - self._mean_volume).flatten(1)
        self._values, self._vectors = torch.linalg.eigh(self._features @ self._features.T)
        with torch.random.fork_rng(devices=[]):  # the factorisation draws its start
            torch.manual_seed(0)
            count = min(DIRECTIONS, *self._change.shape)
            _, spread, directions = torch.svd_lowrank(self._change, count, niter=3)
        scaled = directions.T * spread[:, None] / math.sqrt(len(features))
        self._directions = scaled.unflatten(1, (3, *(NODES,) * 3))

    def at(self, features: torch.Tensor, map_ridge: float, volume_ridge: float) -> Expectation:
        """What is expected of a radiograph with ``features`` (1, F); weights are shares of the features' sum
        of squares."""
        along = (features - self._middle) @ self._features.T @ self._vectors
        change = self._solved(along, self._change, map_ridge) + self._mean_change
        volume = self._solved(along, self._volumes, volume_ridge).view_as(self._mean_volume)
        change = resized(change.unflatten(1, (3, *(NODES,) * 3)), tuple(self._mean_map.shape[1:]))
        return Expectation(self._mean_map + change, self._mean_volume + volume, self._directions)

    def _solved(self, along: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
        strength = self._values + ridge * self._values.sum()
        return along / strength @ self._vectors.T @ targets


def moved_to(expected: Expectation, tissue: torch.Tensor, iterations: int) -> torch.Tensor:
    """(1, 3, d, h, w): the expected map, moved so that bent ``tissue`` (D, H, W) is near what is expected."""
    start, size = expected.template_map, tuple(2 * n for n in expected.volume.shape)
    coefficients = torch.zeros(len(expected.directions), requires_grad=True)

    def moved() -> torch.Tensor:
        change = torch.einsum("k,kczyx->czyx", coefficients, expected.directions)[None]
        return start + resized(change, tuple(start.shape[2:]))

    optimiser = torch.optim.Adam([coefficients], _STEP)
    for _ in range(iterations):
        # The mean of two neighbours of a grid twice as fine is the middle of a coarse voxel.
        middles = functional.avg_pool3d(resized(moved(), size), 2).permute(0, 2, 3, 4, 1)
        bent = functional.grid_sample(tissue[None, None], middles, padding_mode="border", align_corners=True)
        loss = (bent[0, 0] - expected.volume).square().mean() + _PRIOR * coefficients.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return moved().detach()
