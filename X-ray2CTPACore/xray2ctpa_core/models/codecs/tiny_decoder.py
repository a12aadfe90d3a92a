"""A small decoder that replaces a 2D KL autoencoder's, whose decoding takes most of the time with a fast
sampler.

It is the decoder of TAESD (Bohan, Tiny autoencoder for Stable Diffusion, 2023; diffusers' DecoderTiny) with
its last levels folded into channels (pixel shuffle; Shi et al., CVPR 2016), because convolutions near full
resolution take most of the time.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DecoderTiny
from torch import nn
from torch.nn import functional

from xray2ctpa_core.errors import ConfigError, InputError


class TinyDecoder(ModelMixin, ConfigMixin):
    """Latents of slices -> slices, each independent of the others in the batch.

    Args:
        latent_channels: C.
        factor: pixels of the slice along the edge of a latent cell: 8 for KL-f8.
        width: channels of every convolution.
        blocks: residual blocks of each level; the first level has the latents' resolution, each further level
            twice that of the one before.
        latent_mean, latent_std: C numbers each, by which latents are standardised; None: they are not.

    Raises:
        ConfigError: the last level's resolution does not divide that of the slice.
    """

    mean: torch.Tensor
    std: torch.Tensor

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        factor: int = 8,
        width: int = 64,
        blocks: tuple[int, ...] = (3, 3),
        latent_mean: tuple[float, ...] | None = None,
        latent_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.fold, rest = divmod(factor, 2 ** (len(blocks) - 1))
        if not blocks or rest or self.fold < 1:
            raise ConfigError(
                f"Expected levels whose last resolution divides {factor} times that of the latents, got "
                f"{len(blocks)} levels."
            )
        widths = (width,) * len(blocks)
        self.decoder: nn.Module = DecoderTiny(
            latent_channels, self.fold**2, tuple(blocks), widths, 2, "relu", "nearest"
        )
        shape = (1, latent_channels, 1, 1)
        self.register_buffer("mean", torch.tensor(latent_mean or (0.0,) * latent_channels).reshape(shape))
        self.register_buffer("std", torch.tensor(latent_std or (1.0,) * latent_channels).reshape(shape))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) latents as the autoencoder's encoder gives them -> (N, 1, factor h, factor w), mostly
        in [-1, 1]."""
        if latents.ndim != 4 or latents.shape[1] != self.config["latent_channels"]:
            raise InputError(
                f"Expected latents of {self.config['latent_channels']} channels of slices (N, C, h, w), got "
                f"{tuple(latents.shape)}.",
                "Train a tiny decoder on these latents.",
            )
        return functional.pixel_shuffle(self.decoder((latents - self.mean) / self.std), self.fold)

    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """As AutoencoderKL.decode; ``sample`` has one channel."""
        return DecoderOutput(sample=self(latents))
