"""The space in which people are compared: mm from the middle of the reference's lungs, axes (z, y, x).

A map from this space, or into it, is a displacement in mm on a coarse lattice that spans a cube.
"""

import numpy as np
import torch
from torch.nn import functional

#: Half the edge of the cube and the lattice's step in mm; nodes along an edge.
HALF_MM, STEP_MM = 250.0, 10.0
NODES = round(2 * HALF_MM / STEP_MM) + 1
#: Rounds of the fixed-point iteration that inverts a map; the change is below 0.1 mm by then.
_INVERSION_ROUNDS = 30


def lattice(device: torch.device | str = "cpu", nodes: int = NODES) -> torch.Tensor:
    """(3, nodes, nodes, nodes) float32: the nodes' places in mm."""
    axis = torch.linspace(-HALF_MM, HALF_MM, nodes, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def displaced(points: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Points (B, 3, ...) in mm moved by displacements (B, 3, n, n, n) in mm on a lattice over the cube.

    Beyond the cube the displacement of its nearest face holds.
    """
    where = (points / HALF_MM).flip(1).permute(0, 2, 3, 4, 1)
    where = where.expand(len(displacement), -1, -1, -1, -1)
    return points + functional.grid_sample(displacement, where, padding_mode="border", align_corners=True)


def inverted(displacement: torch.Tensor) -> torch.Tensor:
    """The displacement (B, 3, NODES, NODES, NODES) that undoes another, by fixed-point iteration (Chen et
    al., Med Phys 2008;35:81, eq. 5)."""
    nodes = lattice(displacement.device)[None].expand(len(displacement), -1, -1, -1, -1)
    result = -displacement
    for _ in range(_INVERSION_ROUNDS):
        there = displaced(nodes + result, displacement) - (nodes + result)
        result = 0.5 * result - 0.5 * there
    return result


def sampled(values: torch.Tensor, points: torch.Tensor, spacing: float, centre: torch.Tensor) -> torch.Tensor:
    """Values (1, C, D, H, W) of a person's grid at points (1, 3, d, h, w) in mm from the lungs' middle."""
    size = torch.tensor(values.shape[2:], device=points.device, dtype=points.dtype)
    index = points / spacing + centre.to(points).view(1, 3, 1, 1, 1)
    unit = (2 * index / (size - 1).view(1, 3, 1, 1, 1) - 1).flip(1).permute(0, 2, 3, 4, 1)
    return functional.grid_sample(values, unit, padding_mode="border", align_corners=True)


def middle_of(mask: np.ndarray) -> np.ndarray:
    """(3,) index of the middle of the bounding box of a mask that is not empty."""
    box = np.argwhere(mask)
    return (box.min(0) + box.max(0)) / 2
