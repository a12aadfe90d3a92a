"""ReconNet, a regressor from one projection to a volume; as a denoiser it needs one step."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.encoders.radiograph_itself import radiograph_of
from xray2ctpa_core.models.protocols import Conditioning

#: Halvings of the image, and doublings of the volume.
LEVELS = 5


class ReconNet(ModelMixin, ConfigMixin):
    """Representation, transformation and generation network (Shen et al., Nature Biomedical Engineering
    2019). With width 256 and 46 slices it is the published one of 588.6 million parameters; with a quarter of
    the width it has a sixteenth of them.

    Args:
        pixels: P of the radiograph, a multiple of 32; the volume has D = W = P.
        slices: coronal slices, front to back: H of the volume.
        width: channels of the first level; each further level has twice as many.
        latent_channels: 1.

    Raises:
        ConfigError: a size that cannot be halved five times, or a width that is no multiple of 4.
    """

    @register_to_config
    def __init__(
        self, pixels: int = 128, slices: int = 128, width: int = 256, latent_channels: int = 1
    ) -> None:
        super().__init__()
        if pixels % 2**LEVELS or width % 4 or latent_channels != 1:
            raise ConfigError(
                f"Expected pixels divisible by {2**LEVELS} and a width divisible by 4, got {pixels} and "
                f"{width}."
            )
        flat = [width * 2**level for level in range(LEVELS)]
        self.represent = nn.ModuleList(
            _Representation(before, after, first=before == 1)
            for before, after in zip([1, *flat[:-1]], flat, strict=True)
        )
        deepest = flat[-1]
        self.transform = nn.Conv2d(deepest, deepest, 1, bias=False)
        self.transform_volume = nn.ConvTranspose3d(deepest // 2, deepest // 2, 1, bias=False)
        solid = [deepest // 2 ** (level + 1) for level in range(LEVELS + 1)]
        self.generate = nn.ModuleList(
            _Generation(solid[level], solid[level + 1], refined=level > 0) for level in range(LEVELS)
        )
        self.flatten = nn.Conv3d(solid[-1], 1, 1, bias=False)
        self.leave = nn.Conv2d(2 * 2**LEVELS, slices, 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        sample: torch.Tensor,  # noqa: ARG002 - a regressor draws nothing
        timestep: torch.Tensor,  # noqa: ARG002
        conditioning: Conditioning,
    ) -> torch.Tensor:
        """See models.protocols.Denoiser: the volume (B, 1, P, slices, P), approximately in [-1, 1] after
        training. Sample and timestep are not used; the conditioning is RadiographItself's."""
        x = radiograph_of(conditioning)
        for level in self.represent:
            x = level(x)
        x = functional.relu(self.transform(x))
        x = x.unflatten(1, (-1, 2))
        x = functional.relu(self.transform_volume(x))
        for level in self.generate:
            x = level(x)
        planes = functional.relu(self.flatten(x)).squeeze(1)
        return 2 * self.leave(planes).transpose(1, 2).unsqueeze(1) - 1


class _Representation(nn.Module):
    """a = conv(x) at half the size, then relu(a + conv(a)); the first level's convolution is not
    normalised."""

    def __init__(self, channels_in: int, channels_out: int, first: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, channels_out, 4, 2, 1, bias=False)
        self.down_norm = nn.Identity() if first else nn.BatchNorm2d(channels_out)
        self.conv = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.conv_norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = functional.relu(self.down_norm(self.down(x)))
        return functional.relu(a + self.conv_norm(self.conv(a)))


class _Generation(nn.Module):
    """Doubles the volume's size; all levels but the first also refine it."""

    def __init__(self, channels_in: int, channels_out: int, refined: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(channels_in, channels_out, 4, 2, 1, bias=False)
        self.up_norm = nn.BatchNorm3d(channels_out)
        self.conv = nn.Sequential()
        if refined:
            self.conv = nn.Sequential(
                nn.ConvTranspose3d(channels_out, channels_out, 3, 1, 1, bias=False),
                nn.BatchNorm3d(channels_out),
                nn.ReLU(),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.relu(self.up_norm(self.up(x))))
