"""The latent PE classifier: MONAI's 3D DenseNet on latents (X-ray2CTPA, section 3.4), with evidence maps."""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from monai.networks.nets.densenet import DenseNet
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.classifiers.evidence import strongest_places

#: MONAI's arguments of each normalisation; one group fits every width.
NORMS: dict[str, Any] = {"batch": "batch", "group": ("group", {"num_groups": 1})}

#: Numbers of strongest places whose means summarise each evidence map: a small filling defect covers a few
#: places, an oligaemic lobe some hundred.
STRONGEST_PLACES = (8, 64, 512)


class PEClassifier(ModelMixin, ConfigMixin):
    """3D DenseNet (Huang et al., CVPR 2017) with one logit.

    Args:
        latent_channels: C of the latents.
        init_features, growth_rate, block_config, dropout: as in monai.networks.nets.DenseNet; the papers'
            DenseNet-121 is (64, 32, (6, 12, 24, 16), 0.2).
        norm: "batch" as in the papers, or "group", which is the same in training and inference and with
            averaged weights.
        first_stride: of the first convolution, (D, H, W); (1, 2, 2) in the papers.
        pool: whether the first convolution is followed by DenseNet's pooling, as in the papers. Without it
            small latents keep more places for clots and for Grad-CAM.
        evidence_maps: M; 0 in the papers, whose classifier uses the mean of its last features, and in
            everything that is trained now. The embedded bundles up to 0.7.0 have such maps, trained with
            masks of clots and signs, because some hundred labels do not suffice to learn small filling
            defects or a little fluid. The maps are computed from all dense blocks, with the deeper ones
            enlarged. Each place's probability is multiplied by the presence probability of the finding in
            the volume, which depends on the map's
            strongest places: a heart of normal size, for example, resembles a large one locally. The logit
            is linear in the mean of the strongest places after this multiplication.
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
        evidence_maps: int = 0,
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
        self.maps: nn.ModuleList | None = None
        if evidence_maps:
            self.network.class_layers = nn.Identity()
            self.maps = nn.ModuleList(
                nn.Conv3d(channels, evidence_maps, 1)
                for channels in _block_channels(init_features, growth_rate, block_config)
            )
            self.shown = nn.Conv1d(evidence_maps, evidence_maps, len(STRONGEST_PLACES), groups=evidence_maps)
            for parameter in self.shown.parameters():
                nn.init.zeros_(parameter)
            self.seen = nn.Identity()
            self.readout = nn.Linear(evidence_maps, 1)

    @property
    def gradcam_layer(self) -> str:
        """Module whose activation Grad-CAM uses: each place's weighted evidence; without evidence maps a
        deep layer of features."""
        return "network.features.denseblock2" if self.maps is None else "seen"

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Args: latents: (B, C, D, H, W), standardised.

        Returns:
            (B, 1) logits of PE.
        """
        if self.maps is None:
            return self.network(latents)
        return self.readout(self.evidence(latents))

    def evidence(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, M) in 0..1, of which the logit is a linear function; only with evidence maps."""
        assert self.maps is not None
        x, blocks = latents, []
        for name, layer in self.network.features.named_children():
            x = layer(x)
            if name.startswith("denseblock"):
                blocks.append(x)
        coarser = [read(block) for read, block in zip(self.maps, blocks, strict=True)]
        maps = coarser[0]
        for more in coarser[1:]:
            maps = maps + functional.interpolate(more, maps.shape[2:], mode="trilinear", align_corners=False)
        strongest = strongest_places(maps.float(), STRONGEST_PLACES)
        shown = self.shown(strongest.to(maps.dtype)).sigmoid()
        seen = self.seen(maps.sigmoid() * shown[..., None, None])
        return strongest_places(seen, STRONGEST_PLACES[:1]).squeeze(2)


def _block_channels(first: int, growth: int, blocks: tuple[int, ...]) -> list[int]:
    """Channels after each dense block; a transition halves them between two."""
    channels = []
    for layers in blocks:
        first += growth * layers
        channels.append(first)
        first //= 2
    return channels
