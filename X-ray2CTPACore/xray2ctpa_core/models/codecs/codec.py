"""One interface to whatever makes latents of volumes, and volumes of latents: the 2D autoencoder slice by
slice, or the 3D VQGAN."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from torch import nn

from xray2ctpa_core.models.codecs.slices import (
    from_autoencoder,
    slices_at_once,
    slices_to_volumes,
    to_autoencoder,
    volumes_to_slices,
)
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.models.codecs.vqgan import VQGAN

#: That the 2D autoencoder decodes in one call, at the papers' size.
SLICES_AT_ONCE = slices_at_once(256, 256)
#: Latent slices that the VQGAN decodes for the sake of one slice: a slice depends on its neighbours.
SLAB = 8


class Codec(nn.Module, ABC):
    """Volumes (B, 1, D, H, W) in [-1, 1] <-> latents (B, C, d, h, w), unscaled; differentiable."""

    @abstractmethod
    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """Volumes -> latents, float32."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents -> volumes, float32, about in [-1, 1]."""

    @abstractmethod
    def decode_slices(self, latents: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """One axial slice a case, (B, 1, H, W), float32, at ``where`` (B,) in [0, 1) along the depth."""

    @abstractmethod
    def channel_gains(self, latents: torch.Tensor, std: torch.Tensor) -> list[float]:
        """Root mean square change of what is decoded when a channel changes by its standard deviation.

        Args:
            latents: (C, d, h, w) of one volume.
            std: (C,) standard deviations.
        """


class SliceCodec(Codec):
    """The 2D autoencoder (X-ray2CTPA, section 3.2); its gains are those of every fourth slice."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """See Codec."""
        slices = to_autoencoder(volumes_to_slices(volumes), self.autoencoder.config["in_channels"])
        return slices_to_volumes(self.autoencoder.encode(slices).latent_dist.mean.float(), len(volumes))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Codec."""
        return decode_by_slices(self.autoencoder, latents)

    def decode_slices(self, latents: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See Codec; other slices play no part in it."""
        chosen = (where * latents.shape[2]).long()
        cases = torch.arange(len(latents), device=latents.device)
        return from_autoencoder(self.autoencoder.decode(latents[cases, :, chosen]).sample.float())

    def channel_gains(self, latents: torch.Tensor, std: torch.Tensor) -> list[float]:
        """See Codec."""
        slices = latents.transpose(0, 1)[::4]
        return _gains(lambda some: self.autoencoder.decode(some).sample, slices, std)


def decode_by_slices(decoder: AutoencoderKL | TinyDecoder, latents: torch.Tensor) -> torch.Tensor:
    """Latents (B, C, D, h, w), unscaled -> volumes (B, 1, D, H, W), float32, about in [-1, 1]."""
    batches = volumes_to_slices(latents).split(SLICES_AT_ONCE)
    slices = torch.cat([decoder.decode(batch).sample.float() for batch in batches])
    return slices_to_volumes(from_autoencoder(slices), len(latents))


class VolumeCodec(Codec):
    """The 3D VQGAN; a slice is taken out of the slab of `SLAB` latent slices that is decoded for it."""

    def __init__(self, vqgan: VQGAN) -> None:
        super().__init__()
        self.vqgan = vqgan

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """See Codec; before they are quantised."""
        return self.vqgan.encode(volumes)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Codec; quantises."""
        return self.vqgan.decode(latents).float()

    def decode_slices(self, latents: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See Codec. Latents of at most `SLAB` slices are decoded whole; of others the slice differs a little
        from that of `decode`, for GroupNorm sees the slab alone."""
        depth, factor = latents.shape[2], self.vqgan.factors[0]
        thickness = min(SLAB, depth)
        chosen = (where * depth * factor).long()
        start = (chosen // factor - thickness // 2).clamp(0, depth - thickness)
        cases = torch.arange(len(latents), device=latents.device)
        places = start[:, None] + torch.arange(thickness, device=latents.device)
        slabs = latents[cases[:, None], :, places].transpose(1, 2)
        return self.decode(slabs)[cases, :, chosen - start * factor]

    def channel_gains(self, latents: torch.Tensor, std: torch.Tensor) -> list[float]:
        """See Codec."""
        return _gains(self.vqgan.decode, latents[None], std)


@torch.no_grad()
def _gains(
    decode: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor, std: torch.Tensor
) -> list[float]:
    """`Codec.channel_gains` of latents (N, C, ...) as ``decode`` reads them."""
    decoded = decode(latents)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    gains = []
    for channel in range(latents.shape[1]):
        moved = latents.clone()
        moved[:, channel] += std[channel] * noise[:, channel]
        gains.append(float((decode(moved) - decoded).square().mean().sqrt()))
    return gains
