"""A codec without loss: blocks of voxels become channels of the latents."""

import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.codecs.codec import Codec, gains


class FoldCodec(Codec, ModelMixin, ConfigMixin):
    """Volumes (B, 1, D, H, W) <-> latents (B, C, d, h, w), whose channels are the C voxels of a cell;
    differentiable.

    Args:
        fold: voxels along the edges of a cell, (D, H, W).

    Attributes:
        gain: (), the constant factor 1; diffusers writes a file of weights only for a network with a tensor.
    """

    gain: torch.Tensor

    @register_to_config
    def __init__(self, fold: tuple[int, ...] = (2, 4, 4)) -> None:
        super().__init__()
        if len(fold) != 3 or min(fold) < 1:
            raise ConfigError(f"Expected three positive edges of a cell, got {fold}.")
        self._fold = tuple(fold)
        self.register_buffer("gain", torch.ones(()))

    @property
    def factors(self) -> tuple[int, int, int]:
        """See Codec."""
        depth, height, width = self._fold
        return depth, height, width

    @property
    def latent_channels(self) -> int:
        """C."""
        return math.prod(self.factors)

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """See Codec. Raises ConfigError if the volume is not a whole number of cells."""
        return folded(self.gain * volumes.float(), self.factors)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Codec."""
        return unfolded(latents.float() / self.gain, self.factors)

    def decode_slices(self, latents: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See Codec."""
        volumes = self.decode(latents)
        chosen = (where * volumes.shape[2]).long()
        return volumes[torch.arange(len(volumes), device=volumes.device), :, chosen]

    def channel_gains(self, latents: torch.Tensor, std: torch.Tensor) -> list[float]:
        """See Codec."""
        return gains(self.decode, latents[None], std)


def folded(volumes: torch.Tensor, fold: tuple[int, int, int]) -> torch.Tensor:
    """(B, 1, D, H, W) -> (B, prod(fold), D / fold, ...). Raises ConfigError if a size is no multiple of its
    edge."""
    if any(size % edge for size, edge in zip(volumes.shape[2:], fold, strict=True)):
        raise ConfigError(f"Expected a volume that cells of {fold} divide, got {tuple(volumes.shape[2:])}.")
    cells = volumes
    for axis, edge in enumerate(fold):
        cells = cells.unflatten(2 + 2 * axis, (-1, edge))
    # (B, 1, d, a, h, b, w, c) -> (B, a * b * c, d, h, w)
    return cells.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def unfolded(latents: torch.Tensor, fold: tuple[int, int, int]) -> torch.Tensor:
    """The inverse of `folded`."""
    cells = latents.unflatten(1, (1, *fold))
    return cells.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
