"""Volumes as batches of axial slices in the form that an autoencoder reads, and back.

The autoencoder is 2D (X-ray2CTPA, section 3.2): slices are encoded one by one. For an autoencoder with 1
channel a slice is unchanged, for one with 3 channels (a VAE of natural images) it is repeated three times,
and for one with r*r channels it is folded by r (pixel unshuffle; Shi et al., CVPR 2016), which avoids
convolutions at full resolution.
"""

import math

import torch
from torch.nn import functional

#: Pixels that an autoencoder processes at once: 32 slices of 128 x 128, 8 of the papers' 256 x 256. It bounds
#: the memory at hardly any cost in time: decoding a slice of the papers' size needs 200 MB (`xray2ctpa
#: bench`).
PIXELS_AT_ONCE = 32 * 128 * 128


def slices_at_once(height: int, width: int) -> int:
    """Number of slices of this size that an autoencoder processes at once."""
    return max(1, PIXELS_AT_ONCE // (height * width))


def volumes_to_slices(volumes: torch.Tensor) -> torch.Tensor:
    """(B, 1, D, H, W) -> (B*D, 1, H, W)."""
    return volumes.transpose(1, 2).flatten(0, 1)


def slices_to_volumes(slices: torch.Tensor, batch: int) -> torch.Tensor:
    """(B*D, C, H, W) -> (B, C, D, H, W)."""
    return slices.unflatten(0, (batch, -1)).transpose(1, 2)


def to_autoencoder(slices: torch.Tensor, channels: int) -> torch.Tensor:
    """(N, 1, H, W) in [-1, 1] -> (N, channels, h, w); raises ValueError for other channel counts."""
    if channels in (1, 3):
        return slices.expand(-1, channels, -1, -1)
    return functional.pixel_unshuffle(slices, _fold(channels))


def from_autoencoder(images: torch.Tensor) -> torch.Tensor:
    """(N, channels, h, w) -> (N, 1, H, W), the inverse of `to_autoencoder` (mean of 3 channels)."""
    channels = images.shape[1]
    if channels in (1, 3):
        return images.mean(1, keepdim=True)
    return functional.pixel_shuffle(images, _fold(channels))


def _fold(channels: int) -> int:
    fold = math.isqrt(channels)
    if fold * fold != channels:
        raise ValueError(f"An autoencoder needs 1, 3 or a square number of channels, got {channels}.")
    return fold
