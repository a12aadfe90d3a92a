"""One interface for all codecs between volumes and latents: the 2D autoencoder, applied slice by slice, the
3D VQGAN, and the identity."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.codecs.slices import (
    from_autoencoder,
    slices_at_once,
    slices_to_volumes,
    to_autoencoder,
    volumes_to_slices,
)
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.models.memory import in_batches


class Codec(nn.Module, ABC):
    """Volumes (B, 1, D, H, W) in [-1, 1] <-> latents (B, C, d, h, w), unscaled; differentiable."""

    @property
    @abstractmethod
    def factors(self) -> tuple[int, int, int]:
        """Voxels along the edges of a latent cell, (D, H, W)."""

    @abstractmethod
    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """Volumes -> latents, float32."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents -> volumes, float32, approximately in [-1, 1]."""

    @abstractmethod
    def decode_slices(self, latents: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """One axial slice of each case, (B, 1, H, W) float32, at ``where`` (B,) in [0, 1) along the depth."""

    @abstractmethod
    def channel_gains(self, latents: torch.Tensor, std: torch.Tensor) -> list[float]:
        """Root mean square change of the decoded volume when a channel changes by its standard deviation.

        Args:
            latents: (C, d, h, w) of one volume.
            std: (C,) standard deviations.
        """


class SliceCodec(Codec):
    """The 2D autoencoder (X-ray2CTPA, section 3.2), or a decoder alone; channel gains are computed on every
    fourth slice.

    Attributes:
        at_once: number of slices decoded in one call after memory was short; None before.
    """

    def __init__(self, autoencoder: AutoencoderKL | TinyDecoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.at_once: int | None = None

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """See Codec: the mean of the posterior."""
        slices = to_autoencoder(volumes_to_slices(volumes), self.autoencoder.config["in_channels"])
        slices = slices.to(self.autoencoder.dtype)
        batches = slices.split(slices_at_once(*volumes.shape[3:]))
        encoded = [self.autoencoder.encode(batch).latent_dist.mean.float() for batch in batches]
        return slices_to_volumes(torch.cat(encoded), len(volumes))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Codec; fewer slices at once where memory is short."""
        slices = volumes_to_slices(latents).to(self.autoencoder.dtype)
        at_once = self.at_once or slices_at_once(*(self.factors[2] * side for side in latents.shape[3:]))
        decoded = in_batches(self._decoded, slices, at_once, self._take_fewer)
        return slices_to_volumes(decoded, len(latents))

    def decode_slices(self, latents: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See Codec; only the chosen slices are decoded."""
        chosen = (where * latents.shape[2]).long()
        cases = torch.arange(len(latents), device=latents.device)
        return self._decoded(latents[cases, :, chosen].to(self.autoencoder.dtype))

    def channel_gains(self, latents: torch.Tensor, std: torch.Tensor) -> list[float]:
        """See Codec."""
        slices = latents.transpose(0, 1)[::4]
        return gains(lambda some: self.autoencoder.decode(some).sample, slices, std)

    @property
    def factors(self) -> tuple[int, int, int]:
        """See Codec."""
        config = self.autoencoder.config
        if isinstance(self.autoencoder, TinyDecoder):
            factor = int(config["factor"])
        else:
            channels = config["out_channels"]
            factor = 2 ** (len(config["block_out_channels"]) - 1)
            factor *= 1 if channels in (1, 3) else math.isqrt(channels)
        return 1, factor, factor

    def _decoded(self, slices: torch.Tensor) -> torch.Tensor:
        return from_autoencoder(self.autoencoder.decode(slices).sample.float())

    def _take_fewer(self, at_once: int) -> None:
        self.at_once = at_once


class IdentityCodec(Codec, ModelMixin, ConfigMixin):
    """The volume itself as latents, for networks that work on voxels.

    Args:
        latent_channels: 1.

    Attributes:
        gain: (), the constant factor 1; diffusers writes a file of weights only for a network with a tensor.
    """

    gain: torch.Tensor

    @register_to_config
    def __init__(self, latent_channels: int = 1) -> None:
        super().__init__()
        if latent_channels != 1:
            raise ConfigError(f"Expected latent_channels 1 of a volume, got {latent_channels}.")
        self.register_buffer("gain", torch.ones(()))

    @property
    def factors(self) -> tuple[int, int, int]:
        """See Codec."""
        return 1, 1, 1

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """See Codec."""
        return self.gain * volumes.float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Codec."""
        return self.gain * latents.float()

    def decode_slices(self, latents: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See Codec."""
        cases = torch.arange(len(latents), device=latents.device)
        return latents[cases, :, (where * latents.shape[2]).long()].float()

    def channel_gains(self, latents: torch.Tensor, std: torch.Tensor) -> list[float]:
        """See Codec."""
        return gains(self.decode, latents[None], std)


@torch.no_grad()
def gains(
    decode: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor, std: torch.Tensor
) -> list[float]:
    """`Codec.channel_gains` of latents (N, C, ...), the input of ``decode``."""
    decoded = decode(latents)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    changes = []
    for channel in range(latents.shape[1]):
        moved = latents.clone()
        moved[:, channel] += std[channel] * noise[:, channel]
        changes.append(float((decode(moved) - decoded).square().mean().sqrt()))
    return changes
