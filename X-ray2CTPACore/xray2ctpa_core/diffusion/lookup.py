"""Trilinear look-up in one volume whose slopes are found on the way, for a CPU."""

import itertools
from typing import Any, NamedTuple

import torch

#: Number to which float32 holds every whole number.
_EXACT_TO = 2**24


class Lookup(torch.autograd.Function):
    """Values of a volume at points, as functional.grid_sample with border padding and aligned corners.

    torch's own computes one case on one thread and visits the eight neighbours of each point again for the
    gradient. Here their differences give the slopes at once: a quarter of the time, forward and backward.
    """

    @staticmethod
    def forward(ctx: Any, volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """The values, differentiable by the points alone.

        Args:
            ctx: torch's.
            volume: (D, H, W) float32, no axis shorter than 2.
            points: (K, 3, ...), (x, y, z) in [-1, 1]: the corners are the centres of the corner voxels.

        Returns:
            (K, ...).
        """
        depth, height, width = volume.shape
        x, y, z = (_cell(points[:, axis], size) for axis, size in enumerate((width, height, depth)))
        # NaN, of networks whose numbers overflow, has no cell: its value is NaN, as its place is.
        exact = torch.float32 if volume.numel() <= _EXACT_TO else torch.float64
        first = (z.first.to(exact) * height + y.first) * width + x.first
        first = first.long().clamp_(min=0).flatten()
        voxels = volume.contiguous().flatten()

        def corner(up: int, back: int, left: int) -> torch.Tensor:
            shifted = voxels[(up * height + back) * width + left :]
            return shifted.index_select(0, first).view(x.place.shape)

        #: Values on the four lines along x that surround a point, and their slopes: [up][back].
        lines = [[corner(up, back, 0) for back in (0, 1)] for up in (0, 1)]
        slopes = [[corner(up, back, 1) - lines[up][back] for back in (0, 1)] for up in (0, 1)]
        for up, back in itertools.product((0, 1), repeat=2):
            lines[up][back].addcmul_(slopes[up][back], x.place)
        low, high = (torch.lerp(front, behind, y.place) for front, behind in lines)
        below, above = (torch.lerp(front, behind, y.place) for front, behind in slopes)
        along_x = torch.lerp(below, above, z.place)
        below, above = (behind - front for front, behind in lines)
        along_y = torch.lerp(below, above, z.place)
        ctx.save_for_backward(torch.stack([along_x * x.scale, along_y * y.scale, (high - low) * z.scale], 1))
        return torch.lerp(low, high, z.place)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:  # type: ignore[override]
        """Of the values (K, ...) -> of the points (K, 3, ...)."""
        (slopes,) = ctx.saved_tensors
        return None, slopes * gradient[:, None]


class _Cell(NamedTuple):
    """Where points lie along one axis.

    Attributes:
        first: number of the voxel before, as float.
        place: share of the way to the next one, 0 to 1.
        scale: voxels per unit of a coordinate; 0 where the border goes on.
    """

    first: torch.Tensor
    place: torch.Tensor
    scale: torch.Tensor


def _cell(coordinates: torch.Tensor, size: int) -> _Cell:
    at = (coordinates + 1).mul_((size - 1) / 2)
    inside = (at > 0) & (at < size - 1)
    at.clamp_(0, size - 1)
    first = at.floor().clamp_(max=size - 2)
    return _Cell(first, at.sub_(first), inside * ((size - 1) / 2))
