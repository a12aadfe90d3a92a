"""The 3D VQGAN as a codec."""

import torch

from xray2ctpa_core.models.codecs.codec import Codec, gains
from xray2ctpa_core.models.codecs.vqgan import VQGAN

#: Latent slices that the VQGAN decodes to get one slice, which depends on its neighbours.
SLAB = 8


class VolumeCodec(Codec):
    """The 3D VQGAN; for a single slice a slab of `SLAB` latent slices around it is decoded."""

    def __init__(self, vqgan: VQGAN) -> None:
        super().__init__()
        self.vqgan = vqgan

    @property
    def factors(self) -> tuple[int, int, int]:
        """See Codec."""
        return self.vqgan.factors

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """See Codec: the latents before quantisation."""
        return self.vqgan.encode(volumes)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Codec; quantises the latents first."""
        return self.vqgan.decode(latents).float()

    def decode_slices(self, latents: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """See Codec. Latents of at most `SLAB` slices are decoded as a whole. Otherwise the slice differs
        slightly from that of `decode`, because GroupNorm uses the slab only."""
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
        return gains(self.vqgan.decode, latents[None], std)
