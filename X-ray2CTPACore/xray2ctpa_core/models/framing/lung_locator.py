"""A small U-Net that segments the two lungs on a letterboxed radiograph and classifies the image."""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.radiograph_unet import RadiographUNet
from xray2ctpa_core.preprocessing.lung_box import CLASS_NAMES


@dataclass(frozen=True)
class LungLocatorOutput:
    """Outputs of the locator for a batch.

    Attributes:
        mask_logits: (B, 2, H, W), lung on the image's left (the patient's right), lung on its right.
        class_logits: (B, 3), order preprocessing.lung_box.CLASS_NAMES.
        mirrored_logits: (B,), above 0 where the apex of the heart seems to point to the image's left.
    """

    mask_logits: torch.Tensor
    class_logits: torch.Tensor
    mirrored_logits: torch.Tensor


class LungLocator(RadiographUNet):
    """A U-Net with a classifier on its deepest and its last features.

    Args:
        channels: widths from half resolution downwards, each divisible by 4.
        size: side of the square input in pixels, divisible by 2 ** len(channels).
    """

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (12, 24, 40, 56, 80), size: int = 128) -> None:
        super().__init__()
        self.set_blocks(channels, size)
        self.mask_head = nn.Conv2d(channels[0], 2, 1)
        self.class_head = nn.Sequential(
            nn.Linear(2 * channels[-1] + 2 * channels[1], 48), nn.SiLU(), nn.Linear(48, len(CLASS_NAMES) + 1)
        )

    def forward(self, image: torch.Tensor) -> LungLocatorOutput:
        """Args: image: (B, 1, size, size) in [0, 1], from preprocessing.letterbox."""
        levels = self.levels(image)
        pooled = [part for x in (levels[0], levels[-2]) for part in (x.mean((2, 3)), x.amax((2, 3)))]
        masks = functional.interpolate(
            self.mask_head(levels[-1]), size=image.shape[-2:], mode="bilinear", align_corners=False
        )
        logits = self.class_head(torch.cat(pooled, dim=1))
        return LungLocatorOutput(masks, logits[:, :-1], logits[:, -1])
