"""How much of the lung along each ray of a radiograph is filled, with fluid or consolidation."""

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.radiograph_unet import RadiographUNet
from xray2ctpa_core.simulation.opacities import OPACITIES

#: Number of OPACITIES, from the first, that are put into samples. Haze is read so that it is not taken
#: for another kind; on real radiographs it follows the exposure.
PUT_IN = 2


class OpacityReader(RadiographUNet):
    """A U-Net on the frame.

    Args:
        channels: widths from half resolution downwards, each divisible by 4.
        size: side of the square input in pixels, divisible by 2 ** len(channels).
        floor: shares of fluid and consolidation up to which none is taken to be there: what is read of real
            radiographs without findings.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32, 48, 64, 96),
        size: int = 128,
        floor: tuple[float, ...] = (0.3, 0.1),  # noqa: ARG002 - read from the configuration
    ) -> None:
        super().__init__()
        self.set_blocks(channels, size)
        self.head = nn.Conv2d(channels[0], len(OPACITIES), 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) in [0, 1] -> (B, 3, size / 2, size / 2) logits of the shares, rows from the top."""
        size = self.config["size"]
        small = functional.interpolate(image.float(), size=(size, size), mode="area")
        return self.head(self.levels(small.to(self.head.weight.dtype))[-1]).float()

    def shares(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 2, size / 2, size / 2): share of the lung along each ray that is filled with fluid and with
        consolidation, 0..1; nothing up to the floor."""
        read = self(image)[:, :PUT_IN].sigmoid().split(1, 1)
        floors = self.config["floor"]
        return torch.cat(
            [(kind - floor) / (1 - floor) for kind, floor in zip(read, floors, strict=True)], 1
        ).clamp(min=0)
