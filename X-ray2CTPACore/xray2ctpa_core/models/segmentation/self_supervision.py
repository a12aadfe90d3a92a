"""The heads of Swin UNETR's self-supervised pre-training (Tang et al., CVPR 2022), on any segmenter."""

import math
from typing import NamedTuple

import torch
from torch import nn

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.segmentation.segmenter import Segmenter

#: Quarter turns that are told apart, and length of the contrastive vector.
TURNS, CONTRAST_DIM = 4, 512


class Guesses(NamedTuple):
    """Of a batch of disturbed crops.

    Attributes:
        rotation: (B, TURNS) logits.
        contrast: (B, CONTRAST_DIM).
        volume: (B, 1, D, H, W), the undisturbed crop.
    """

    rotation: torch.Tensor
    contrast: torch.Tensor
    volume: torch.Tensor


class SelfSupervised(nn.Module):
    """A segmenter's bottleneck with three heads: rotation reads its first place, contrast its second,
    reconstruction all. XctDiff does not describe the UNet's; it takes the same places.

    Args:
        segmenter: whose bottleneck is trained.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        channels = segmenter.bottleneck_channels
        self.rotation = nn.Linear(channels, TURNS)
        self.contrast = nn.Linear(channels, CONTRAST_DIM)
        layers: list[nn.Module] = []
        for _ in range(segmenter.factor.bit_length() - 1):
            layers += [
                nn.Conv3d(channels, channels // 2, 3, padding=1),
                nn.InstanceNorm3d(channels // 2),
                nn.LeakyReLU(),
                nn.Upsample(scale_factor=2, mode="trilinear"),
            ]
            channels //= 2
        self.reconstruction = nn.Sequential(*layers, nn.Conv3d(channels, 1, 1))

    def forward(self, volumes: torch.Tensor) -> Guesses:
        """(B, 1, D, H, W), at least two places of the bottleneck large.

        Raises:
            InputError: smaller crops.
        """
        if math.prod(size // self.segmenter.factor for size in volumes.shape[2:]) < 2:
            raise InputError(
                f"Expected crops of at least two cells of {self.segmenter.factor} voxels, got "
                f"{tuple(volumes.shape[2:])}.",
                "Set a larger crop.",
            )
        deepest = self.segmenter.bottleneck(volumes)
        places = deepest.flatten(2)
        return Guesses(
            self.rotation(places[:, :, 0]), self.contrast(places[:, :, 1]), self.reconstruction(deepest)
        )
