"""What fills lungs in place of air: its kinds, their HU, and how a share of it changes a voxel."""

import torch

#: Kinds, in the order of every tensor that holds them, and the HU of each.
OPACITIES = ("fluid", "consolidation", "haze")
OPACITY_HU = (12.0, 25.0, 12.0)


def filled(hu: torch.Tensor, share: torch.Tensor, value: float) -> torch.Tensor:
    """HU with a ``share`` (0..1, of the same shape) of each voxel at ``value`` HU; denser voxels stay."""
    return hu + share.clamp(0, 1) * (value - hu).clamp(min=0)
