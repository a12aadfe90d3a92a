"""The latent PE classifier: MONAI's 3D DenseNet on latents (X-ray2CTPA, section 3.4), shown the clots."""

import math
from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from monai.networks.nets import DenseNet
from torch import nn

#: Normalisations by name, as MONAI takes them; one group fits every width.
NORMS: dict[str, Any] = {"batch": "batch", "group": ("group", {"num_groups": 1})}

#: Places of the clot map whose mean counts as evidence: a lobar clot covers about so many.
_STRONGEST_PLACES = 8


class Reading(NamedTuple):
    """What the classifier says of latents (B, C, D, H, W).

    Attributes:
        logit: (B, 1), of PE.
        without_clots: (B, 1), the part of it that is not the clots' evidence; the same without a clot head.
        features: (B, F), what that part is read off.
        clots: (B, d, h, w) logits of clot at each place; None without a clot head.
        strongest: (B, 1) mean of the highest of them, the clots' evidence before its weight.
    """

    logit: torch.Tensor
    without_clots: torch.Tensor
    features: torch.Tensor
    clots: torch.Tensor | None
    strongest: torch.Tensor | None


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
        clot_head: whether a map of clots, read off the first dense block, adds its strongest places to the
            logit. Some hundred patients teach no network from labels alone what a small filling defect is;
            their clot masks do.
        places: parts of the last features that are read apart, along (D, H, W); the papers' is one mean. An
            effusion is fluid at the bottom, a large heart is one that reaches the left: a mean over all
            places tells neither.
    """

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
        clot_head: bool = False,
        places: tuple[int, ...] = (1, 1, 1),
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
        if math.prod(places) > 1:
            head = self.network.class_layers
            head.pool = nn.AdaptiveAvgPool3d(tuple(places))
            head.out = nn.Linear(head.out.in_features * math.prod(places), 1)
        self.clot_map: nn.Conv3d | None = None
        if clot_head:
            self.clot_map = nn.Conv3d(init_features + growth_rate * block_config[0], 1, 1)
            self.clot_evidence = nn.Linear(1, 1)
            nn.init.constant_(self.clot_evidence.weight, 0.5)
            nn.init.zeros_(self.clot_evidence.bias)

    @property
    def gradcam_layer(self) -> str:
        """Module whose activation Grad-CAM reads: where clots are told (32 x 16 x 16 places in the default),
        else deep enough to know PE."""
        return f"network.features.denseblock{2 if self.clot_map is None else 1}"

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Args: latents: (B, C, D, H, W), standardised.

        Returns:
            (B, 1) logits of PE.
        """
        return self.read(latents).logit

    def read(self, latents: torch.Tensor) -> Reading:
        """The logit, and what it is made of."""
        clots: torch.Tensor | None = None
        x = latents
        for name, layer in self.network.features.named_children():
            x = layer(x)
            if name == "denseblock1" and self.clot_map is not None:
                clots = self.clot_map(x).squeeze(1)
        *pool, last = self.network.class_layers
        for layer in pool:
            x = layer(x)
        logit = last(x)
        if clots is None:
            return Reading(logit, logit, x, None, None)
        strongest = clots.flatten(1).topk(_STRONGEST_PLACES, 1).values.mean(1, keepdim=True)
        return Reading(logit + self.clot_evidence(strongest), logit, x, clots, strongest)

    @property
    def feature_count(self) -> int:
        """F of a Reading's features."""
        return int(self.network.class_layers[-1].in_features)
