"""The 3D VQGAN: a volume -> latents -> quantised latents -> a volume."""

import itertools
import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.axes import exchange
from xray2ctpa_core.models.blocks import EPS, Downsample, Level, ResidualBlock, swish
from xray2ctpa_core.models.codecs.codebook import Codebook, Quantised

#: Groups of the block after an upsampling, if they divide its width; fixed in the published decoder.
_UPSAMPLE_GROUPS = 8


class VQGAN(ModelMixin, ConfigMixin):
    """Convolutional encoder and decoder with a codebook between them (Esser et al., CVPR 2021, section 3.1),
    as XctDiff has them (arXiv 2406.04679); names and shapes of its tensors are those of the published code.

    The defaults are the paper's: widths 32 x (1, 2, 4), 2 residual blocks a level, GroupNorm of 8, latents of
    8 channels at a quarter of the volume's size, 8192 codes, homogeneous distances. The published code has
    homogeneous=False. Levels that keep the depth are our addition: XctDiff has cubic voxels; X-ray2CTPA's
    volumes of alternate slices have not.

    Args:
        channels: widths of the levels; each level but the last halves height and width.
        depth_strides: factor by which each level but the last divides the depth, 1 or 2.
        blocks: residual blocks of a level; the decoder has one more.
        latent_channels: C of the latents, and of the codes.
        codes: in the codebook.
        groups: of GroupNorm.
        inner_channels: of the encoder's output and the decoder's input, which 1x1x1 convolutions project to
            and from C channels.
        homogeneous: see Codebook; the latents are then z-scored vectors.
        super_resolution: whether the decoder ends in a SuperResolution head.
        encoder_attention, decoder_attention: levels, 0 the finest, whose blocks are followed by attention.
        volume_channels: of the volumes, read and written.
        first_channels: of the encoder's first convolution; 0 for those of the first level.
        released_axes: whether the network computes on (x, y, z) while it is given (D, H, W) (models.axes).

    Raises:
        ConfigError: other strides, widths that ``groups`` does not divide, or attention at a missing level.
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
        inner_channels: int = 4,
        homogeneous: bool = True,
        super_resolution: bool = False,
        encoder_attention: tuple[int, ...] = (),
        decoder_attention: tuple[int, ...] = (),
        volume_channels: tuple[int, int] = (1, 1),
        released_axes: bool = False,
        first_channels: int = 0,
    ) -> None:
        super().__init__()
        if len(depth_strides) != len(channels) - 1 or not set(depth_strides) <= {1, 2}:
            raise ConfigError(
                f"Expected a depth stride of 1 or 2 for each of {len(channels) - 1} levels, got "
                f"{tuple(depth_strides)}."
            )
        if any(width % groups for width in (first_channels, *channels)):
            raise ConfigError(
                f"Expected widths divisible by groups={groups}, got {(first_channels, *channels)}."
            )
        if not {*encoder_attention, *decoder_attention} <= set(range(len(channels))):
            raise ConfigError(f"Expected attention at levels below {len(channels)}, got others.")
        self.factors = (math.prod(depth_strides), 2 ** len(depth_strides), 2 ** len(depth_strides))
        self._released_axes = released_axes
        strides = tuple((stride, 2, 2) for stride in depth_strides)
        read, written = volume_channels
        first = first_channels or channels[0]
        self.encoder = _Encoder(
            read, first, channels, strides, blocks, inner_channels, groups, encoder_attention
        )
        self.decoder = _Decoder(
            written, channels, strides, blocks, inner_channels, groups, decoder_attention, super_resolution
        )
        self.quantize = Codebook(codes, latent_channels, homogeneous)
        self.quant_conv = nn.Conv3d(inner_channels, latent_channels, 1)
        self.post_quant_conv = nn.Conv3d(latent_channels, inner_channels, 1)

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """Latents before quantisation, on which a diffusion model is trained (Rombach et al., CVPR 2022,
        section 3.1).

        Args:
            volumes: (B, 1, D, H, W) in [-1, 1].

        Returns:
            (B, C, d, h, w) float32, D, H and W divided by ``factors``; with a homogeneous codebook each
            vector of C values has mean 0 and variance 1.

        Raises:
            InputError: a size that its factor does not divide.
        """
        if any(size % factor for size, factor in zip(volumes.shape[2:], self.factors, strict=True)):
            raise InputError(
                f"Expected volumes (D, H, W) of multiples of {self.factors}, got {tuple(volumes.shape[2:])}.",
                "Preprocess to another shape, or train a VQGAN of other levels.",
            )
        encoded = self.quant_conv(self.encoder(exchange(volumes, self._released_axes)))
        return exchange(self.quantize.normalised(encoded.float()), self._released_axes)

    def quantise(self, latents: torch.Tensor) -> Quantised:
        """(B, C, d, h, w) latents of `encode`, or generated ones -> quantised."""
        return self.quantize(latents)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, d, h, w) latents of `encode`, or generated ones -> (B, 1, D, H, W), approximately in [-1,
        1]: quantises, then decodes. Gradients reach the latents (straight-through)."""
        return self.decode_quantised(self.quantise(latents).values)

    def decode_quantised(self, values: torch.Tensor) -> torch.Tensor:
        """(B, C, d, h, w) quantised latents -> (B, 1, D, H, W), approximately in [-1, 1]."""
        decoded = self.decoder(self.post_quant_conv(exchange(values, self._released_axes)))
        return exchange(decoded, self._released_axes)

    def forward(self, volumes: torch.Tensor) -> tuple[torch.Tensor, Quantised]:
        """(B, 1, D, H, W) in [-1, 1] -> its reconstruction, and the quantised latents."""
        quantised = self.quantise(self.encode(volumes))
        return self.decode_quantised(quantised.values), quantised

    @property
    def last_layer(self) -> torch.Tensor:
        """Weight of the decoder's last convolution; an adaptive loss weight compares the gradients in it."""
        return self.decoder.conv_out.weight


class _Encoder(nn.Module):
    def __init__(
        self,
        read: int,
        first: int,
        channels: tuple[int, ...],
        strides: tuple[tuple[int, ...], ...],
        blocks: int,
        inner_channels: int,
        groups: int,
        attention: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.init_conv = nn.Conv3d(read, first, 3, padding=1)
        self.down = nn.ModuleList()
        for place, (width, wider) in enumerate(itertools.pairwise((first, *channels))):
            down = Downsample(wider, strides[place]) if place < len(strides) else None
            self.down.append(Level(3, width, wider, blocks, groups, place in attention, down))
        self.norm = nn.GroupNorm(groups, channels[-1], EPS)
        self.conv_out = nn.Conv3d(channels[-1], inner_channels, 3, padding=1)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        x = self.init_conv(volumes)
        for level in self.down:
            x = level(x)
        return self.conv_out(swish(self.norm(x)))


class _Decoder(nn.Module):
    """``up`` runs from the finest level to the coarsest, as in the published code."""

    def __init__(
        self,
        written: int,
        channels: tuple[int, ...],
        strides: tuple[tuple[int, ...], ...],
        blocks: int,
        inner_channels: int,
        groups: int,
        attention: tuple[int, ...],
        super_resolution: bool,
    ) -> None:
        super().__init__()
        widest = channels[-1]
        self.conv_in = nn.Conv3d(inner_channels, widest, 3, padding=1)
        self.mid_norm = nn.GroupNorm(groups, widest, EPS)
        self.mid_block = nn.Conv3d(widest, widest, 3, padding=1)
        self.up = nn.ModuleList()
        for place, (width, wider) in enumerate(itertools.pairwise((*channels, widest))):
            up = _Upsample(width, strides[place - 1]) if place else None
            self.up.append(Level(3, wider, width, blocks + 1, groups, place in attention, upsample=up))
        self.norm_out = nn.GroupNorm(groups, channels[0], EPS)
        self.conv_out = nn.Conv3d(channels[0], written, 3, padding=1)
        self.super_resolution: nn.Module | None = None
        if super_resolution:
            self.super_resolution = SuperResolution(channels[0], written, groups)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        x = self.mid_block(swish(self.mid_norm(self.conv_in(latents))))
        for level in reversed(self.up):
            x = level(x)
        output = self.conv_out(swish(self.norm_out(x)))
        return output if self.super_resolution is None else output + self.super_resolution(x)


class _Upsample(nn.Module):
    """Trilinear, then a residual block."""

    def __init__(self, channels: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self._scale = [float(stride) for stride in strides]
        self.conv = ResidualBlock(3, channels, channels, math.gcd(_UPSAMPLE_GROUPS, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.interpolate(x, scale_factor=self._scale, mode="trilinear"))


class SuperResolution(nn.Module):
    """Computes detail at half resolution, which is added to the decoded volume.

    The paper says only that its module is at the decoder's end, follows a super-resolution network, and costs
    0.6 million parameters and 0.32 TFLOP at 128 cubed. This one costs as much: residual blocks as in EDSR
    (Lim et al., CVPRW 2017) at half the resolution, and a sub-pixel convolution (Shi et al., CVPR 2016).

    Args:
        channels: of the decoder's features at full resolution.
        written: channels of the volume.
        groups: of GroupNorm.
    """

    def __init__(self, channels: int, written: int, groups: int) -> None:
        super().__init__()
        width = 2 * channels
        self.fold = nn.Conv3d(channels, width, 2, 2)
        self.blocks = nn.Sequential(*(ResidualBlock(3, width, width, groups) for _ in range(2)))
        self.conv = nn.Conv3d(width, width, 3, padding=1)
        self.unfold = nn.Conv3d(width, 8 * written, 3, padding=1)
        nn.init.zeros_(self.unfold.weight)
        nn.init.zeros_(self.unfold.bias)  # type: ignore[arg-type]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, channels, D, H, W), even sizes -> (B, written, D, H, W)."""
        x = self.fold(features)
        x = self.unfold(swish(x + self.conv(self.blocks(x))))
        parts = x.unflatten(1, (-1, 2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return parts.reshape(len(x), -1, *features.shape[2:])
