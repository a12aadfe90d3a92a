"""From the style of real radiographs to that of computed ones, and back: CycleGAN's generator."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from xray2ctpa_core.errors import ConfigError, InputError

#: Styles that a radiograph can be translated to.
COMPUTED, REAL = "computed", "real"
#: What the two halvings need of a side.
_MULTIPLE = 4
#: Standard deviation of the initial weights (Zhu et al., ICCV 2017).
WEIGHT_STD = 0.02


class StyleTransfer(ModelMixin, ConfigMixin):
    """Residual generator (Zhu et al., ICCV 2017, appendix 7.2): radiograph -> radiograph of another style.

    Args:
        width: channels of the first convolution; the middle has four times as many.
        blocks: residual blocks; 9 in the paper.
        target: style that it leads to, COMPUTED or REAL.

    Raises:
        ConfigError: no blocks, or another style.
    """

    @register_to_config
    def __init__(self, width: int = 64, blocks: int = 9, target: str = COMPUTED) -> None:
        super().__init__()
        if width < 1 or blocks < 1:
            raise ConfigError(f"Expected at least 1 channel and 1 block, got {width} and {blocks}.")
        if target not in (COMPUTED, REAL):
            raise ConfigError(f"Expected the style {COMPUTED} or {REAL}, got {target!r}.")
        middle = 4 * width
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(1, width, 7),
            *_norm(width),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            *_norm(2 * width),
            nn.Conv2d(2 * width, middle, 3, 2, 1),
            *_norm(middle),
            *(_Residual(middle) for _ in range(blocks)),
            nn.ConvTranspose2d(middle, 2 * width, 3, 2, 1, output_padding=1),
            *_norm(2 * width),
            nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1),
            *_norm(width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 1, 7),
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, WEIGHT_STD)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) in [0, 1] -> the same radiographs in the other style, in [0, 1].

        Raises:
            InputError: P is no multiple of 4.
        """
        if images.shape[-1] % _MULTIPLE or images.shape[-2] % _MULTIPLE:
            raise InputError(
                f"Expected radiographs of a multiple of {_MULTIPLE} pixels along a side for the style "
                f"transfer, got {tuple(images.shape[-2:])}.",
                "Preprocess the radiographs to another size (pixels), or leave the style out.",
            )
        return (self.layers(2 * images - 1) + 1) / 2

    @torch.no_grad()
    def restyled(self, images: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
        """Standardised radiographs in the other style, standardised alike.

        Args:
            images: (B, 1, P, P), grey values in [0, 1] minus ``mean``, over ``std``.
            mean, std: of the standardisation.
        """
        greys = (images.to(self.device, self.dtype) * std + mean).clamp(0, 1)
        return (self(greys) - mean) / std


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            *_norm(channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def _norm(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU()
