"""The 3D VQGAN: a volume -> latents, and back over a codebook."""

import itertools
import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import nn

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.codecs.codebook import Codebook, Quantised, normalise_vectors

_EPS = 1e-6


class VQGAN(ModelMixin, ConfigMixin):
    """Convolutional encoder and decoder with a codebook between them (Esser et al., CVPR 2021, section 3.1).

    The defaults are XctDiff's (arXiv 2406.04679): widths 32 x (1, 2, 4), 2 residual blocks (MONAI's) a level,
    GroupNorm of 8, latents of 8 channels at a quarter of the volume's size, 8192 codes. Its super-resolution
    module at the decoder's end is left out. Levels that keep the depth are ours: XctDiff's voxels are cubes,
    those of X-ray2CTPA's alternate slices are not.

    Args:
        channels: widths of the levels; each level but the last halves height and width.
        depth_strides: what each level but the last divides the depth by, 1 or 2.
        blocks: residual blocks of a level.
        latent_channels: C of the latents, and of the codes.
        codes: in the codebook.
        groups: of GroupNorm.

    Raises:
        ConfigError: other strides, or widths that ``groups`` does not divide.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 128),
        depth_strides: tuple[int, ...] = (2, 2),
        blocks: int = 2,
        latent_channels: int = 8,
        codes: int = 8192,
        groups: int = 8,
    ) -> None:
        super().__init__()
        if len(depth_strides) != len(channels) - 1 or not set(depth_strides) <= {1, 2}:
            raise ConfigError(
                f"Expected a depth stride of 1 or 2 for each of {len(channels) - 1} levels, got "
                f"{tuple(depth_strides)}."
            )
        if any(width % groups for width in channels):
            raise ConfigError(f"Expected widths divisible by groups={groups}, got {tuple(channels)}.")
        self.factors = (math.prod(depth_strides), 2 ** len(depth_strides), 2 ** len(depth_strides))
        self.encoder = _encoder(channels, depth_strides, blocks, latent_channels, groups)
        self.codebook = Codebook(codes, latent_channels)
        self.decoder = _decoder(channels, depth_strides, blocks, latent_channels, groups)

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """Latents before they are quantised, which a diffusion model learns (Rombach et al., CVPR 2022,
        section 3.1).

        Args:
            volumes: (B, 1, D, H, W) in [-1, 1].

        Returns:
            (B, C, d, h, w) float32, D, H and W divided by ``factors``; each vector of C has mean 0 and
            variance 1.

        Raises:
            InputError: a size that its factor does not divide.
        """
        if any(size % factor for size, factor in zip(volumes.shape[2:], self.factors, strict=True)):
            raise InputError(
                f"Expected volumes (D, H, W) of multiples of {self.factors}, got {tuple(volumes.shape[2:])}.",
                "Preprocess to another shape, or train a VQGAN of other levels.",
            )
        return normalise_vectors(self.encoder(volumes).float())

    def quantise(self, latents: torch.Tensor) -> Quantised:
        """(B, C, d, h, w) of `encode`, or generated -> on their codes."""
        return self.codebook(latents)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, d, h, w) of `encode`, or generated -> (B, 1, D, H, W), about in [-1, 1]: quantises, then
        decodes. Gradients reach the latents (straight-through)."""
        return self.decoder(self.quantise(latents).values)

    def forward(self, volumes: torch.Tensor) -> tuple[torch.Tensor, Quantised]:
        """(B, 1, D, H, W) in [-1, 1] -> its reconstruction, and the latents on their codes."""
        quantised = self.quantise(self.encode(volumes))
        return self.decoder(quantised.values), quantised


def _encoder(
    channels: tuple[int, ...], strides: tuple[int, ...], blocks: int, latent_channels: int, groups: int
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv3d(1, channels[0], 3, padding=1)]
    width = channels[0]
    for level, wider in enumerate(channels):
        layers += _level(width, wider, blocks, groups)
        width = wider
        if level < len(strides):
            layers.append(nn.Conv3d(width, width, 3, (strides[level], 2, 2), padding=1))
    return nn.Sequential(*layers, *_last(width, latent_channels, groups))


def _decoder(
    channels: tuple[int, ...], strides: tuple[int, ...], blocks: int, latent_channels: int, groups: int
) -> nn.Sequential:
    width = channels[-1]
    layers: list[nn.Module] = [nn.Conv3d(latent_channels, width, 3, padding=1)]
    for narrower, stride in itertools.zip_longest(reversed(channels), reversed(strides)):
        layers += _level(width, narrower, blocks, groups)
        width = narrower
        if stride is not None:
            layers += [
                nn.Upsample(scale_factor=(stride, 2, 2)),
                nn.Conv3d(width, width, 3, padding=1),
            ]
    return nn.Sequential(*layers, *_last(width, 1, groups))


def _level(width: int, wider: int, blocks: int, groups: int) -> list[nn.Module]:
    widths = [width] + [wider] * blocks
    return [AEKLResBlock(3, into, groups, _EPS, out) for into, out in itertools.pairwise(widths)]


def _last(width: int, out: int, groups: int) -> list[nn.Module]:
    return [nn.GroupNorm(groups, width, _EPS), nn.SiLU(), nn.Conv3d(width, out, 3, padding=1)]
