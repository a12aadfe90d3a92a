"""Networks that segment volumes, with the bottleneck that self-supervised heads read."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from monai.networks.nets import BasicUNet, SwinUNETR
from torch import nn

from xray2ctpa_core.errors import ConfigError

NETWORKS = ("unet", "swin-unetr")
#: Deepest UNet features over feature_size; MONAI's BasicUNet has 32, 32, 64, 128, 256.
_UNET_WIDTHS = (1, 1, 2, 4, 8, 1)


class Segmenter(ModelMixin, ConfigMixin):
    """MONAI's UNet (Falk et al., 2019) or Swin UNETR (Hatamizadeh et al., 2022).

    Args:
        network: of NETWORKS.
        classes: with the background.
        feature_size: channels of the first level; a multiple of 12 for Swin UNETR, whose reference has 48.

    Raises:
        ConfigError: another network.
    """

    @register_to_config
    def __init__(self, network: str = "unet", classes: int = 2, feature_size: int = 32) -> None:
        super().__init__()
        self.body: nn.Module
        if network == "unet":
            features = tuple(feature_size * width for width in _UNET_WIDTHS)
            self.body = BasicUNet(3, 1, classes, features)
            self.bottleneck_channels, self.factor = features[4], 16
            self._heads = ("final_conv",)
        elif network == "swin-unetr":
            self.body = SwinUNETR(1, classes, feature_size=feature_size)
            self.bottleneck_channels, self.factor = 16 * feature_size, 32
            self._heads = ("out",)
        else:
            raise ConfigError(f"Expected a network out of {', '.join(NETWORKS)}, got {network!r}.")

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """(B, 1, D, H, W), sizes multiples of ``factor`` -> (B, classes, D, H, W) logits."""
        return self.body(volumes)

    def bottleneck(self, volumes: torch.Tensor) -> torch.Tensor:
        """(B, 1, D, H, W) -> (B, bottleneck_channels, D / factor, H / factor, W / factor)."""
        body = self.body
        if isinstance(body, SwinUNETR):
            return body.swinViT(volumes, body.normalize)[4]
        x = body.conv_0(volumes)  # type: ignore[operator]
        for level in (body.down_1, body.down_2, body.down_3, body.down_4):
            x = level(x)  # type: ignore[operator]
        return x

    def start_from(self, other: "Segmenter") -> None:
        """Takes the weights of another network of this architecture, but for the last layer.

        Raises:
            ConfigError: it is of another architecture.
        """
        same = ("network", "feature_size")
        if any(self.config[key] != other.config[key] for key in same):
            raise ConfigError(
                f"Expected a start with {', '.join(f'{k}={self.config[k]}' for k in same)}, got "
                f"{', '.join(f'{k}={other.config[k]}' for k in same)}."
            )
        kept = {
            name: tensor
            for name, tensor in self.body.state_dict().items()
            if name.split(".")[0] in self._heads
        }
        self.body.load_state_dict(other.body.state_dict() | kept)
