"""Volumes as batches of axial slices in the form an autoencoder reads, and back.

The autoencoder is 2D (X-ray2CTPA, section 3.2): slices are encoded one by one. An autoencoder of 1 channel
reads a slice as it is, one of 3 channels (a natural-image VAE) reads it three times, and one of r*r channels
reads it folded by r (pixel unshuffle; Shi et al., CVPR 2016), which spares convolutions at full resolution.
"""

import math

import torch
from torch.nn import functional

#: Pixels that an autoencoder takes at once: 32 slices of the default's size, 8 of the papers'. Bounds memory,
#: hardly costs time: at the papers' size a slice holds 200 MB while it is decoded (`xray2ctpa bench`).
PIXELS_AT_ONCE = 32 * 128 * 128


def slices_at_once(height: int, width: int) -> int:
    """Slices of so many pixels that an autoencoder takes at once."""
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
