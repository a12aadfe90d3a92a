"""A small U-Net that segments the two lungs on a letterboxed radiograph and classifies the image."""

import itertools
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.preprocessing.lung_box import CLASS_NAMES


@dataclass(frozen=True)
class LungLocatorOutput:
    """Outputs of the locator for a batch.

    Attributes:
        mask_logits: (B, 2, H, W), lung on the image's left (the patient's right), lung on its right.
        class_logits: (B, 3), order preprocessing.lung_box.CLASS_NAMES.
        mirrored_logits: (B,), above 0 where the apex of the heart seems to point to the image's left.
    """

    mask_logits: torch.Tensor
    class_logits: torch.Tensor
    mirrored_logits: torch.Tensor


class _Block(nn.Module):
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


class LungLocator(ModelMixin, ConfigMixin):
    """U-Net after Ronneberger et al. (MICCAI 2015), with a classifier on its deepest and its last features.

    Args:
        channels: widths from half resolution downwards, each divisible by 4.
        size: side of the square input in pixels, divisible by 2 ** len(channels).
    """

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (12, 24, 40, 56, 80), size: int = 128) -> None:
        super().__init__()
        if any(c % 4 for c in channels) or size % 2 ** len(channels):
            raise ValueError(
                f"channels must be divisible by 4 and size by 2**{len(channels)}, got {channels} and {size}."
            )
        self.stem = nn.Conv2d(1, channels[0], 5, 2, 2)
        self.entry = _Block(channels[0], channels[0])
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(_Block(a, b, 2) for a, b in pairs)
        self.up = nn.ModuleList(_Block(a + b, a) for a, b in reversed(pairs))
        self.mask_head = nn.Conv2d(channels[0], 2, 1)
        self.class_head = nn.Sequential(
            nn.Linear(2 * channels[-1] + 2 * channels[1], 48), nn.SiLU(), nn.Linear(48, len(CLASS_NAMES) + 1)
        )

    def forward(self, image: torch.Tensor) -> LungLocatorOutput:
        """Args: image: (B, 1, size, size) in [0, 1], from preprocessing.letterbox."""
        x = self.entry(functional.silu(self.stem(2 * image - 1)))
        skips = [x]
        for block in self.down:
            x = block(x)
            skips.append(x)
        deepest = skips.pop()
        pooled = [deepest.mean((2, 3)), deepest.amax((2, 3))]
        for block in self.up:
            skip = skips.pop()
            x = functional.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([skip, x], dim=1))
            if len(skips) == 1:
                pooled += [x.mean((2, 3)), x.amax((2, 3))]
        masks = functional.interpolate(
            self.mask_head(x), size=image.shape[-2:], mode="bilinear", align_corners=False
        )
        logits = self.class_head(torch.cat(pooled, dim=1))
        return LungLocatorOutput(masks, logits[:, :-1], logits[:, -1])
