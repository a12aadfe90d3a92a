"""XctDiff's progressive encoder: a radiograph -> features on the grid of the codec's latents."""

import itertools

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.axes import exchange, upward
from xray2ctpa_core.models.blocks import EPS, DoubleBlock, Downsample, Level, ResidualBlock, SelfAttention
from xray2ctpa_core.models.codecs.codebook import Codebook, Quantised
from xray2ctpa_core.models.protocols import Conditioning

#: Groups of the normalisations after the lift.
_LIFTED_GROUPS = 4
#: Factor of each of the decoder's two upsamplings.
_DOUBLING = 2


class ProgressiveEncoder(ModelMixin, ConfigMixin):
    """XctDiff's radiograph encoder (arXiv 2406.04679), in two phases: the shape, by an MLP along the axis
    that a radiograph lacks, and the anatomy, by 3D convolutions; then the projection to the codec's latents,
    y = N(q(Conv(z))). It is trained separately, as a regressor of the volume with its own codebook and
    decoder.

    Names and shapes of its tensors are those of the published code, whose network has homogeneous=False and
    quantised=False.

    Args:
        width, multipliers: channels of the 2D levels are width times a multiplier; each level but the last
            halves the radiograph. The last level must have lifted_channels * depth channels.
        blocks: residual blocks of a level.
        depth: cells along the lifted axis, and along a side of the radiograph at the last level: 32 for 128
            pixels and 3 levels.
        lifted_channels: channels of the 3D features.
        inner_channels: channels after the 3D convolutions.
        latent_channels, codes: of the codebook.
        groups: of GroupNorm in 2D; the decoder's second block has half as many.
        attention: numbers of the 2D levels, 0 the finest, whose blocks are followed by attention.
        middle_attention: whether the middle block has attention.
        homogeneous: of Codebook.
        quantised: whether the condition is quantised.
        released_axes: whether the network computes on (x, y, z), with rows from the top at its input and
            (D, H, W) at its output (models.axes).
        progressive: without it the 2D features, projected to inner_channels, are the same at every depth, and
            neither MLP nor 3D convolutions follow: the row of the paper's Table 3 without this encoder, which
            the paper does not describe.

    Raises:
        ConfigError: a last level that the lift cannot divide, or attention at a level that does not exist.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 4),
        blocks: int = 2,
        depth: int = 32,
        lifted_channels: int = 16,
        inner_channels: int = 16,
        latent_channels: int = 8,
        codes: int = 8192,
        groups: int = 32,
        attention: tuple[int, ...] = (),
        middle_attention: bool = True,
        homogeneous: bool = True,
        quantised: bool = True,
        released_axes: bool = False,
        progressive: bool = True,
    ) -> None:
        super().__init__()
        last = width * multipliers[-1]
        if last != lifted_channels * depth:
            raise ConfigError(
                f"Expected a last level of lifted_channels * depth = {lifted_channels * depth} channels, got "
                f"{last}."
            )
        if not set(attention) <= set(range(len(multipliers))):
            raise ConfigError(f"Expected attention at levels below {len(multipliers)}, got {attention}.")
        #: Along a side of the radiograph.
        self.pixels = depth * 2 ** (len(multipliers) - 1)
        self._quantised, self._released_axes = quantised, released_axes
        channels = tuple(width * multiplier for multiplier in multipliers)
        self.encoder = _Encoder(
            width,
            channels,
            blocks,
            depth,
            lifted_channels,
            inner_channels,
            groups,
            attention,
            middle_attention,
            progressive,
        )
        self.quant_conv = nn.Conv3d(inner_channels, latent_channels, 1)
        self.quantize = Codebook(codes, latent_channels, homogeneous)
        self.post_quant_conv = nn.Conv3d(latent_channels, inner_channels, 1)
        self.decoder = _Decoder(inner_channels, width, groups)

    def condition(self, image: torch.Tensor) -> Conditioning:
        """See protocols.RadiographEncoder: ``spatial`` (B, C, d, h, w), float32.

        Args:
            image: (B, 1, P, P) in [0, 1], P the depth times 2 for each halving: 128.

        Raises:
            InputError: another size.
        """
        features = self._features(image)
        values = self.quantize(features).values if self._quantised else self.quantize.normalised(features)
        return Conditioning(spatial=exchange(values, self._released_axes))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, Quantised]:
        """(B, 1, P, P) -> the volume (B, 1, P, P, P), regressed from the quantised features, in [-1, 1] once
        trained, and these features, in the network's axis order. Raises the errors of `condition`."""
        quantised = self.quantize(self._features(image))
        decoded = self.decoder(self.post_quant_conv(quantised.values))
        return exchange(decoded, self._released_axes), quantised

    def _features(self, image: torch.Tensor) -> torch.Tensor:
        if tuple(image.shape[1:]) != (1, self.pixels, self.pixels):
            raise InputError(
                f"Expected radiographs (B, 1, {self.pixels}, {self.pixels}), got {tuple(image.shape)}.",
                "Set the framing's pixels to this number.",
            )
        return self.quant_conv(self.encoder(upward(image, self._released_axes))).float()


class _Mlp(nn.Module):
    """An MLP along the last axis."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, features)
        self.fc2 = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class _Middle(nn.Module):
    """2D block and attention, then the lift: channels become channels and depth, and two MLPs act along the
    depth."""

    def __init__(self, channels: int, depth: int, groups: int, attention: bool) -> None:
        super().__init__()
        self._depth = depth
        self.block = ResidualBlock(2, channels, channels, groups)
        self.attn = SelfAttention(2, channels) if attention else nn.Identity()
        self.norm = nn.LayerNorm(depth, EPS)
        self.mlp = _Mlp(depth)
        self.norm2 = nn.LayerNorm(depth, EPS)
        self.mlp2 = _Mlp(depth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) -> (B, channels / depth, h, depth, w)."""
        x = self.attn(self.block(x)).unflatten(1, (-1, self._depth)).movedim(2, -1)
        x = self.mlp2(self.norm2(functional.gelu(self.mlp(self.norm(x)))))
        return x.transpose(3, 4)


class _Flat(nn.Module):
    """2D block, attention and projection, whose features are the same at every depth."""

    def __init__(self, channels: int, inner: int, depth: int, groups: int, attention: bool) -> None:
        super().__init__()
        self._depth = depth
        self.block = ResidualBlock(2, channels, channels, groups)
        self.attn = SelfAttention(2, channels) if attention else nn.Identity()
        self.project = nn.Conv2d(channels, inner, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) -> (B, inner, h, depth, w)."""
        return self.project(self.attn(self.block(x)))[:, :, :, None].expand(-1, -1, -1, self._depth, -1)


class _Encoder(nn.Module):
    def __init__(
        self,
        width: int,
        channels: tuple[int, ...],
        blocks: int,
        depth: int,
        lifted_channels: int,
        inner_channels: int,
        groups: int,
        attention: tuple[int, ...],
        middle_attention: bool,
        progressive: bool,
    ) -> None:
        super().__init__()
        self.init_conv = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.ModuleList()
        for place, (before, after) in enumerate(itertools.pairwise((width, *channels))):
            down = Downsample(after, (2, 2)) if place < len(channels) - 1 else None
            self.down.append(Level(2, before, after, blocks, groups, place in attention, down))
        self.mid: nn.Module
        if progressive:
            self.mid = _Middle(channels[-1], depth, groups, middle_attention)
            self.conv_out: nn.Module = DoubleBlock(3, lifted_channels, inner_channels, _LIFTED_GROUPS)
        else:
            self.mid = _Flat(channels[-1], inner_channels, depth, groups, middle_attention)
            self.conv_out = nn.Identity()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.init_conv(image)
        for level in self.down:
            x = level(x)
        return self.conv_out(self.mid(x))


class _Decoder(nn.Module):
    """Features on the latents' grid -> the volume at four times its size."""

    def __init__(self, inner_channels: int, width: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv3d(inner_channels, width, 3, padding=1),
            DoubleBlock(3, width, width // 2, groups),
            nn.Upsample(scale_factor=_DOUBLING, mode="trilinear"),
            DoubleBlock(3, width // 2, width // 4, groups // 2),
            nn.Upsample(scale_factor=_DOUBLING, mode="trilinear"),
            nn.Conv3d(width // 4, 1, 3, padding=1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv(features)
