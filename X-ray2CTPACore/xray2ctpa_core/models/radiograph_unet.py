"""The U-Net of the small networks that read a radiograph (Ronneberger et al., MICCAI 2015)."""

import itertools
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group normalisation, around a shortcut; the first may halve the size."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        groups = 4
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(groups, channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.second_norm = nn.GroupNorm(groups, channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.first_norm(self.first(x)))
        return functional.silu(x + self.second_norm(self.second(x)))


class RadiographUNet(ModelMixin, ConfigMixin):
    """Down from half of the radiograph's resolution, and up to it again."""

    def set_blocks(self, channels: Sequence[int], size: int) -> None:
        """Makes the layers.

        Args:
            channels: widths from half resolution downwards, each divisible by 4.
            size: side of the square input in pixels, divisible by 2 ** len(channels).
        """
        if any(c % 4 for c in channels) or size % 2 ** len(channels):
            raise ValueError(
                f"channels must be divisible by 4 and size by 2**{len(channels)}, got {channels} and {size}."
            )
        self.stem = nn.Conv2d(1, channels[0], 5, 2, 2)
        self.entry = ResidualBlock(channels[0], channels[0])
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(ResidualBlock(a, b, 2) for a, b in pairs)
        self.up = nn.ModuleList(ResidualBlock(a + b, a) for a, b in reversed(pairs))

    def levels(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, size, size) in [0, 1] -> features from the deepest level up to half of the resolution."""
        x = self.entry(functional.silu(self.stem(2 * image - 1)))
        skips = [x]
        for block in self.down:
            x = block(x)
            skips.append(x)
        levels = [skips.pop()]
        for block in self.up:
            skip = skips.pop()
            x = functional.interpolate(levels[-1], size=skip.shape[-2:], mode="bilinear", align_corners=False)
            levels.append(block(torch.cat([skip, x], dim=1)))
        return levels
