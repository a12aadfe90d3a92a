"""The generator of X2CT-CNN and X2CT-GAN for one view, a regressor; as a denoiser it needs one step."""

import itertools
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.encoders.radiograph_itself import radiograph_of
from xray2ctpa_core.models.protocols import Conditioning

#: Standard deviation of the initial weights (Ying et al., CVPR 2019).
WEIGHT_STD = 0.02


class X2CT(ModelMixin, ConfigMixin):
    """A 2D DenseNet over the radiograph and a 3D decoder over its summary, joined at every resolution (Ying
    et al., X2CT-GAN, CVPR 2019, connections A and B; C joins two views). The defaults are the published
    single-view network: 29,384,481 parameters.

    Args:
        pixels: P of the radiograph, and of the volume (P, P, P); a multiple of 2 for each dense block.
        width: channels of the first convolution.
        blocks: layers of the dense blocks, each at half the resolution of the one before.
        growth, bottleneck: channels that a layer adds, and channels from which it computes them.
        decoder: channels of the decoder from the coarsest resolution to the full one, one more than blocks.
        dropout: in connection A.
        latent_channels: 1.

    Raises:
        ConfigError: a size that cannot be halved once for each dense block, or a decoder of another depth.
    """

    @register_to_config
    def __init__(
        self,
        pixels: int = 128,
        width: int = 64,
        blocks: tuple[int, ...] = (6, 12, 24, 16, 6),
        growth: int = 32,
        bottleneck: int = 128,
        decoder: tuple[int, ...] = (256, 128, 64, 32, 16, 16),
        dropout: float = 0.5,
        latent_channels: int = 1,
    ) -> None:
        super().__init__()
        if pixels % 2 ** len(blocks) or len(decoder) != len(blocks) + 1 or latent_channels != 1:
            raise ConfigError(
                f"Expected pixels divisible by {2 ** len(blocks)} and {len(blocks) + 1} decoder widths, got "
                f"{pixels} and {tuple(decoder)}."
            )
        self._coarsest = pixels // 2 ** len(blocks)
        self.enter = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(1, width, 7), *_norm(2, width))
        self.dense = nn.ModuleList()
        widths = [width]
        for place, layers in enumerate(blocks):
            halves = place < len(blocks) - 1
            self.dense.append(_DenseLevel(widths[-1], layers, growth, bottleneck, halves))
            grown = widths[-1] + layers * growth
            widths.append(grown // 2 if halves else grown)
        self.summary = nn.Sequential(
            nn.Linear(widths[-1], decoder[0] * self._coarsest**3), nn.Dropout(dropout), nn.ReLU()
        )
        self.lift = nn.ModuleList(
            _Lift(flat, solid) for flat, solid in zip(widths[-2::-1], decoder[1:], strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(*_up(before, after)) for before, after in itertools.pairwise(decoder)
        )
        self.join = nn.ModuleList(
            nn.Sequential(*_convolutions(2 * solid, solid, 3 if place < len(blocks) - 1 else 2))
            for place, solid in enumerate(decoder[1:])
        )
        self.leave = nn.Sequential(nn.Conv3d(decoder[-1], 1, 7, padding=3), nn.ReLU())
        self.apply(_initialise)

    def forward(
        self,
        sample: torch.Tensor,  # noqa: ARG002 - a regressor draws nothing
        timestep: torch.Tensor,  # noqa: ARG002
        conditioning: Conditioning,
    ) -> torch.Tensor:
        """See models.protocols.Denoiser: the volume (B, 1, P, P, P) in [-1, inf). Sample and timestep are not
        used; the conditioning is RadiographItself's."""
        x = self.enter(radiograph_of(conditioning))
        features = [x]
        for level in self.dense:
            x = level(x)
            features.append(x)
        summary = self.summary(features.pop().mean((2, 3)))
        x = summary.unflatten(1, (-1, *(self._coarsest,) * 3))
        for up, lift, join in zip(self.up, self.lift, self.join, strict=True):
            x = join(torch.cat([up(x), lift(features.pop())], 1))
        return 2 * self.leave(x) - 1


class _DenseLevel(nn.Module):
    """Halves the image, adds ``layers`` times ``growth`` channels, and optionally halves the channels."""

    def __init__(self, channels: int, layers: int, growth: int, bottleneck: int, halves: bool) -> None:
        super().__init__()
        self.down = nn.Sequential(*_norm(2, channels), nn.Conv2d(channels, channels, 3, 2, 1))
        self.layers = nn.ModuleList(
            nn.Sequential(
                *_norm(2, channels + place * growth),
                nn.Conv2d(channels + place * growth, bottleneck, 1),
                *_norm(2, bottleneck),
                nn.Conv2d(bottleneck, growth, 3, padding=1),
            )
            for place in range(layers)
        )
        grown = channels + layers * growth
        self.halve = (
            nn.Sequential(*_norm(2, grown), nn.Conv2d(grown, grown // 2, 1)) if halves else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.halve(x)


class _Lift(nn.Module):
    """Connection B: features of the image, repeated along the missing axis."""

    def __init__(self, flat: int, solid: int) -> None:
        super().__init__()
        self.flat = nn.Sequential(nn.Conv2d(flat, solid, 1), *_norm(2, solid))
        self.solid = nn.Sequential(nn.Conv3d(solid, solid, 3, padding=1), *_norm(3, solid))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, flat, d, w) -> (B, solid, d, w, w)."""
        return self.solid(self.flat(x).unsqueeze(3).expand(-1, -1, -1, x.shape[3], -1))


def _convolutions(channels_in: int, channels_out: int, count: int) -> list[nn.Module]:
    """3D convolutions, each with normalisation; the first one changes the width."""
    layers: list[nn.Module] = []
    for place in range(count):
        entering = channels_in if place == 0 else channels_out
        layers += [nn.Conv3d(entering, channels_out, 3, padding=1), *_norm(3, channels_out)]
    return layers


def _up(channels_in: int, channels_out: int) -> Sequence[nn.Module]:
    doubled = nn.ConvTranspose3d(channels_in, channels_out, 3, 2, 1, output_padding=1)
    return doubled, *_norm(3, channels_out)


def _norm(dimensions: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """Instance normalisation without parameters, and ReLU."""
    kind = nn.InstanceNorm2d if dimensions == 2 else nn.InstanceNorm3d
    return kind(channels), nn.ReLU()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
        nn.init.normal_(module.weight, 0, WEIGHT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
