"""The latent PE classifier: MONAI's 3D DenseNet on latents (X-ray2CTPA, section 3.4)."""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from monai.networks.nets import DenseNet
from torch import nn

#: Normalisations by name, as MONAI takes them; one group fits every width.
NORMS: dict[str, Any] = {"batch": "batch", "group": ("group", {"num_groups": 1})}


class PEClassifier(ModelMixin, ConfigMixin):
    """3D DenseNet (Huang et al., CVPR 2017) with one logit.

    Args:
        latent_channels: C of the latents.
        init_features, growth_rate, block_config, dropout: as in monai.networks.nets.DenseNet; the papers'
            DenseNet-121 is (64, 32, (6, 12, 24, 16), 0.2).
        norm: "batch" as in the papers, or "group": the same in training and use, and with averaged weights.
        first_stride: of the first convolution, (D, H, W); the papers' is (1, 2, 2).
        pool: whether the first convolution is followed by DenseNet's pooling, as in the papers. Small
            latents keep more places for clots, and for Grad-CAM, without it.
    """

    #: Module whose activation Grad-CAM reads: deep enough to know PE, and with 16 x 8 x 8 places
    #: in the default.
    gradcam_layer = "network.features.denseblock2"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        init_features: int = 24,
        growth_rate: int = 12,
        block_config: tuple[int, ...] = (4, 4, 4, 4),
        dropout: float = 0.2,
        norm: str = "group",
        first_stride: tuple[int, ...] = (2, 2, 2),
        pool: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}.")
        self.network = DenseNet(
            spatial_dims=3,
            in_channels=latent_channels,
            out_channels=1,
            init_features=init_features,
            growth_rate=growth_rate,
            block_config=tuple(block_config),
            dropout_prob=dropout,
            norm=NORMS[norm],
        )
        self.network.features.conv0.stride = tuple(first_stride)
        if not pool:
            self.network.features.pool0 = nn.Identity()

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Args: latents: (B, C, D, H, W), standardised.

        Returns:
            (B, 1) logits of PE.
        """
        return self.network(latents)
