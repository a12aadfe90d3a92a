"""Stage: the opacity reader, on drawn patients whose filled lung along each ray is known."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.encoders.opacity_reader import OpacityReader

#: Lung along a ray of which the filled share weighs half, in mm.
_HALF_WEIGHT_MM = 60.0
#: Of fluid, consolidation and haze in the loss: a consolidation is what is hardest to find.
_IMPORTANCE = (1.0, 3.0, 2.0)
#: Standard deviation of the logarithm of gamma; greatest unevenness and noise, of greys in [0, 1].
_GRADATION, _UNEVEN, _NOISE = 0.2, 0.1, 0.05


class OpacityReaderStage:
    """Cross-entropy of the filled shares, weighted by the lung along each ray.

    Args:
        reader: the module.
    """

    def __init__(self, reader: OpacityReader) -> None:
        self.module: nn.Module = reader

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage. ``batch``: image (B, 1, P, P) and opaque (B, 4, D, W) of simulation.people.drawing."""
        shares, weight = shares_and_weight(batch["opaque"])
        logits = module(varied(batch["image"], generator))
        if logits.shape[2:] != shares.shape[2:]:
            logits = functional.interpolate(logits, size=shares.shape[2:], mode="area")
        entropy = functional.binary_cross_entropy_with_logits(logits, shares, reduction="none")
        terms = (entropy * weight).sum((0, 2, 3)) / weight.sum().clamp(min=1e-6)
        return (terms * terms.new_tensor(_IMPORTANCE)).sum(), {
            "fluid": terms[0].detach(),
            "consolidation": terms[1].detach(),
        }


def varied(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(B, 1, P, P) in [0, 1] with another gradation, uneven greys and noise.

    The ranks of greys depend on what else a radiograph shows.
    """
    batch, device = len(image), image.device
    gamma = torch.exp(_GRADATION * torch.randn(batch, 1, 1, 1, generator=generator, device=device))
    field = torch.randn(batch, 1, 3, 3, generator=generator, device=device)
    field = functional.interpolate(field, size=image.shape[2:], mode="bicubic", align_corners=True)
    strength = torch.rand(batch, 2, 1, 1, generator=generator, device=device)
    noise = torch.randn(image.shape, generator=generator, device=device)
    uneven = _UNEVEN * strength[:, :1] * field + _NOISE * strength[:, 1:] * noise
    return (image.clamp(0, 1) ** gamma + uneven).clamp(0, 1)


def shares_and_weight(opaque: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Filled shares (B, 3, D, W) of the lung along each ray, 0..1, and their weights (B, 1, D, W)."""
    lung, filled = opaque.float().split((1, 3), 1)
    return (filled / lung.clamp(min=1)).clamp(0, 1), lung / (lung + _HALF_WEIGHT_MM)
