"""Convolutional blocks of XctDiff's codec and radiograph encoder, in 2D and 3D.

Their tensors have the published names, so that a published checkpoint fits name by name.
"""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.convolution import Conv3d

#: Of every GroupNorm and LayerNorm in these networks.
EPS = 1e-6
#: Groups of the normalisation before attention, whatever the network's other groups are.
ATTENTION_GROUPS = 32


def swish(x: torch.Tensor) -> torch.Tensor:
    """SiLU, x sigmoid(x). Without gradients in two steps as in the published code: of two codes that are
    nearly as near, the look-up then takes the same."""
    return functional.silu(x) if torch.is_grad_enabled() else x * torch.sigmoid(x)


def convolution(dimensions: int, channels_in: int, channels_out: int, size: int) -> nn.Module:
    """A convolution of odd ``size`` in 2 or 3 dimensions that keeps the grid."""
    kind = nn.Conv2d if dimensions == 2 else Conv3d
    return kind(channels_in, channels_out, size, padding=size // 2)


class DoubleBlock(nn.Module):
    """Twice: GroupNorm, SiLU, convolution of size 3.

    Args:
        dimensions: 2 or 3.
        channels_in, channels_out: of the first convolution; the second keeps them.
        groups: of both normalisations.
    """

    def __init__(self, dimensions: int, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, EPS)
        self.conv1 = convolution(dimensions, channels_in, channels_out, 3)
        self.norm2 = nn.GroupNorm(groups, channels_out, EPS)
        self.conv2 = convolution(dimensions, channels_out, channels_out, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, ...) -> (B, channels_out, ...)."""
        x = self.conv1(swish(self.norm1(x)))
        return self.conv2(swish(self.norm2(x)))


class ResidualBlock(DoubleBlock):
    """A DoubleBlock and a shortcut, of size 1 where the widths differ. Arguments as there."""

    def __init__(self, dimensions: int, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__(dimensions, channels_in, channels_out, groups)
        self.nin_shortcut: nn.Module | None = None
        if channels_in != channels_out:
            self.nin_shortcut = convolution(dimensions, channels_in, channels_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, ...) -> (B, channels_out, ...)."""
        shortcut = x if self.nin_shortcut is None else self.nin_shortcut(x)
        return shortcut + super().forward(x)


class SelfAttention(nn.Module):
    """Residual attention with one head among all places of an image or a volume, its weights written out (as
    `swish` is, for the same reason).

    Args:
        dimensions: 2 or 3.
        channels: a multiple of `ATTENTION_GROUPS`.
    """

    def __init__(self, dimensions: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(ATTENTION_GROUPS, channels, EPS)
        self.q, self.k, self.v, self.proj_out = (
            convolution(dimensions, channels, channels, 1) for _ in range(4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, ...) -> the same."""
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (torch.bmm(q.transpose(1, 2), k) * q.shape[1] ** -0.5).softmax(2)
        attended = torch.bmm(v, weights.transpose(1, 2))
        return x + self.proj_out(attended.reshape(x.shape))


class Downsample(nn.Module):
    """Halves the axes whose stride is 2 by a convolution as large as its stride.

    Args:
        channels: kept.
        strides: of the axes, 1 or 2 each; as many as there are dimensions.
    """

    def __init__(self, channels: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        kind = nn.Conv2d if len(strides) == 2 else Conv3d
        self.conv = kind(channels, channels, strides, strides)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, ...) -> the same on the coarser grid."""
        return self.conv(x)


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention where the level has it.

    Args:
        dimensions: 2 or 3.
        channels_in, channels_out: of the first block; the others keep them.
        blocks: how many.
        groups: of the blocks.
        attention: whether the level has it.
        downsample, upsample: what leads to the next level, where there is one.
    """

    def __init__(
        self,
        dimensions: int,
        channels_in: int,
        channels_out: int,
        blocks: int,
        groups: int,
        attention: bool,
        downsample: nn.Module | None = None,
        upsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(
            ResidualBlock(dimensions, widths[place], channels_out, groups) for place in range(blocks)
        )
        self.attn = nn.ModuleList(
            SelfAttention(dimensions, channels_out) for _ in range(blocks if attention else 0)
        )
        self.downsample, self.upsample = downsample, upsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, ...) -> (B, channels_out, ...), on the next level's grid."""
        for place, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[place](x)
        for resampling in (self.downsample, self.upsample):
            x = x if resampling is None else resampling(x)
        return x
