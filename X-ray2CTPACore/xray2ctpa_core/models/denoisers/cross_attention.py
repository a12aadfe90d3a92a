"""Attention of a denoiser's voxels to the features of a radiograph, plane by plane (XctDiff, section on the
prior-guided diffusion model, which only names cross-attention; its form is our choice)."""

import torch
from torch import nn
from torch.nn import functional

#: Number of coordinates of a place in its plane, which relate voxels and features.
_COORDINATES = 2


class PlaneCrossAttention(nn.Module):
    """A residual block: each voxel of a plane attends to the features of the same plane, averaged to its
    resolution.

    A plane has as many features as voxels, so that the cost is that of attention within a slice; attention
    among all places of a volume of 32 planes would cost 32 times as much. The last projection starts at zero.

    Args:
        channels: of the voxels.
        features: channels of the radiograph's features.
        heads, head_dim: of the attention.
    """

    def __init__(self, channels: int, features: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels + _COORDINATES, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(features + _COORDINATES, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Args:
            x: (B, D, H, W, channels).
            features: (B, features, D, h, w).

        Returns:
            As ``x``.
        """
        grid = (x.shape[1], x.shape[2], x.shape[3])
        pooled = functional.adaptive_avg_pool3d(features, grid).movedim(1, -1).to(x.dtype)
        q = self.to_q(_with_coordinates(self.norm(x)))
        k, v = self.to_kv(_with_coordinates(pooled)).chunk(2, -1)
        q, k, v = (
            t.flatten(2, 3).flatten(0, 1).unflatten(-1, (self._heads, -1)).transpose(1, 2) for t in (q, k, v)
        )
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out(attended).reshape(x.shape)


def _with_coordinates(x: torch.Tensor) -> torch.Tensor:
    """(B, D, H, W, C) -> the same with row and column, each -1 to 1, as further channels."""
    rows, columns = (torch.linspace(-1, 1, size, device=x.device, dtype=x.dtype) for size in x.shape[2:4])
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    return torch.cat([x, grid.expand(*x.shape[:-1], -1)], -1)
