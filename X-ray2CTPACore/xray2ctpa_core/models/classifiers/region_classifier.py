"""A linear PE classifier of latents, whose logit is a sum over regions of the thorax."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

#: Mean and standard deviation of a region's values.
_MEASURES = 2


class RegionClassifier(ModelMixin, ConfigMixin):
    """The logit is a sum over regions, linear in the mean and the spread of the latents' values in each.

    Grad-CAM of that sum is each region's positive contribution. It is fitted in closed form
    (training.bank_read_outs), because a network trained on few labels learns the people instead of the
    disease.

    Args:
        regions: (D, H, W) of equal boxes.
    """

    #: Module whose activation Grad-CAM uses.
    gradcam_layer = "added"

    @register_to_config
    def __init__(self, regions: tuple[int, ...] = (8, 8, 8)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(_MEASURES, *regions))
        self.bias = nn.Parameter(torch.zeros(1))
        self.mean: torch.Tensor
        self.register_buffer("mean", torch.zeros(_MEASURES, *regions))
        self.added = nn.Identity()

    def measures(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W) -> (B, 2, *regions): mean and standard deviation of all values in each region."""
        regions = tuple(self.config["regions"])
        mean = functional.adaptive_avg_pool3d(latents.mean(1, keepdim=True), regions)
        square = functional.adaptive_avg_pool3d(latents.square().mean(1, keepdim=True), regions)
        return torch.cat([mean, (square - mean.square()).clamp(min=1e-8).sqrt()], 1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W) -> (B, 1) logits of PE."""
        added = self.weight * (self.measures(latents) - self.mean)
        return self.added(added.sum(1, keepdim=True)).flatten(1).sum(1, keepdim=True) + self.bias
