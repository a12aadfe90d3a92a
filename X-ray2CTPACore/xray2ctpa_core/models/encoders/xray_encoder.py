"""A radiograph encoder: a radiograph's frame -> one embedding, a PE logit, and lifted features.

The recipes real-pairs, virtual-pairs and systems train it; the embedded bundles up to 0.7.0 hold one with an
atlas and sign maps.
"""

import itertools
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.models.classifiers.evidence import strongest_places
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas, resized
from xray2ctpa_core.models.encoders.rays import RayLift
from xray2ctpa_core.models.protocols import Conditioning

#: Unit of the map's head, in half-widths of the atlas.
MAP_UNIT = 0.1
#: Coarse change of a map: channels and cells of its input, width of its network, points along an edge.
_COARSE_MAP_CHANNELS, _COARSE_MAP_CELLS, _COARSE_MAP_WIDTH, _COARSE_MAP_POINTS = 24, 8, 128, 6
#: Embedding: channels and cells of its input. A mean over the whole radiograph would not encode a wide heart.
_EMBEDDING_CHANNELS, _EMBEDDING_CELLS = 8, 4
#: Numbers of strongest places (of 64 x 32) whose means summarise each sign map.
_STRONGEST_CELLS = (4, 32, 256)


@dataclass(frozen=True)
class XrayFeatures:
    """Output of the encoder for a batch of frames.

    Attributes:
        embedding: (B, embedding_dim), for `global` conditioning.
        lifted: (B, lifted_channels + sign_maps, D, H, W) on the latent grid; possibly for the first cases of
            the batch only.
        pe_logit: (B,), PE from the radiograph alone.
        template_map: (B, 3, *MAP_GRID) float32, the expected map into the atlas (models.encoders.atlas);
            None without an atlas.
    """

    embedding: torch.Tensor
    lifted: torch.Tensor
    pe_logit: torch.Tensor
    template_map: torch.Tensor | None = None

    def first(self, cases: int) -> "XrayFeatures":
        """The features of the first ``cases`` of the batch."""
        where = None if self.template_map is None else self.template_map[:cases]
        return XrayFeatures(self.embedding[:cases], self.lifted[:cases], self.pe_logit[:cases], where)


@dataclass(frozen=True)
class XrayConditioning(Conditioning):
    """The conditioning of this encoder, which can also compute the latents expected under another map into
    the atlas.

    Attributes:
        features, encoder: features of the radiographs, and the encoder that computed them.
    """

    features: XrayFeatures | None = None
    encoder: "XrayEncoder | None" = None

    @property
    def template_map(self) -> torch.Tensor | None:
        """(B, 3, *MAP_GRID), the expected map into the atlas; None without an atlas."""
        return None if self.features is None else self.features.template_map

    def expected_under(self, template_map: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W): the expected latents for ``template_map`` as the map into the atlas."""
        if self.encoder is None or self.features is None:
            raise ValueError(
                "Expected the conditioning of an encoder with an atlas, got one without encoder."
            )
        return self.encoder.expected_latents(self.features, template_map).float()


class Residual(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, around a shortcut (He et al., ECCV 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(functional.silu(self.norm2(h)))


class XrayEncoder(ModelMixin, ConfigMixin):
    """U-shaped 2D network whose output map holds, for every ray, features of all depths along it.

    The reshape from channels to depths is that of XctDiff's progressive encoder (section 3.2). Diverging rays
    instead of parallel columns, and the atlas, are ours.

    Args:
        channels: widths at 1/2, 1/4, 1/8, 1/16 and 1/32 of the frame, multiples of 8.
        latent_grid: (D, H, W) of the latents; D and W must divide the frame at 1/4 resolution evenly.
        lifted_channels: feature channels on the latent grid.
        embedding_dim: length of the global embedding.
        latent_channels: C of the latents.
        atlas_shape: (D, H, W) of a deformable atlas; None for none.
        atlas_features: learned channels of the atlas.
        atlas_fold: voxels of a slice along the edge of a latent cell.
        appearance_channels: width of the network from warped atlas and lifted features to latents.
        sign_maps: number of radiographic signs of which the encoder predicts a map; 0 for none. The maps
            enter the embedding and, along the rays, the lifted features: from latents alone a network of
            this size learns outlines but not faint structures.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (24, 48, 96, 128, 160),
        latent_grid: tuple[int, ...] = (64, 32, 32),
        lifted_channels: int = 8,
        embedding_dim: int = 512,
        latent_channels: int = 4,
        atlas_shape: tuple[int, ...] | None = None,
        atlas_features: int = 8,
        atlas_fold: int = 4,
        appearance_channels: int = 24,
        sign_maps: int = 0,
    ) -> None:
        super().__init__()
        if any(c % 8 for c in channels) or len(channels) < 3:
            raise ValueError(f"channels needs at least 3 multiples of 8, got {channels}.")
        self.stem = nn.Conv2d(1, channels[0], 5, 2, 2)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(nn.Sequential(Residual(a, b, stride=2), Residual(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(Residual(a + b, a) for a, b in reversed(pairs[1:]))
        depth_planes = latent_grid[1]
        self.to_depths = nn.Sequential(
            nn.GroupNorm(8, channels[1]), nn.SiLU(), nn.Conv2d(channels[1], 192, 3, 1, 1), nn.SiLU()
        )
        self.depth_head = nn.Conv2d(192, lifted_channels * depth_planes, 1)
        self.lift = RayLift(depth_planes)
        self.embed = nn.Sequential(
            nn.GroupNorm(8, channels[-1]),
            nn.Conv2d(channels[-1], _EMBEDDING_CHANNELS, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(_EMBEDDING_CELLS),
            nn.Flatten(),
            nn.Linear(_EMBEDDING_CHANNELS * _EMBEDDING_CELLS**2, embedding_dim),
        )
        self.see_signs: nn.Conv2d | None = None
        if sign_maps:
            self.see_signs = nn.Conv2d(192, sign_maps, 1)
            self.sign_embedding = nn.Linear(sign_maps * len(_STRONGEST_CELLS), embedding_dim, bias=False)
        self.pe_head = nn.Linear(embedding_dim, 1)
        self.atlas: DeformableAtlas | None = None
        if lifted_channels < latent_channels:
            raise ValueError(f"lifted_channels must be at least {latent_channels}, got {lifted_channels}.")
        if atlas_shape is not None:
            self.atlas = DeformableAtlas(atlas_shape, latent_grid, atlas_fold, atlas_features)
            self.coarse_map = nn.Sequential(
                nn.GroupNorm(8, channels[-1]),
                nn.Conv2d(channels[-1], _COARSE_MAP_CHANNELS, 1),
                nn.SiLU(),
                nn.AdaptiveAvgPool2d(_COARSE_MAP_CELLS),
                nn.Flatten(),
                nn.Linear(_COARSE_MAP_CHANNELS * _COARSE_MAP_CELLS**2, _COARSE_MAP_WIDTH),
                nn.SiLU(),
                nn.Linear(_COARSE_MAP_WIDTH, 3 * _COARSE_MAP_POINTS**3),
            )
            self.fine_map = nn.Conv2d(192, 3 * MAP_GRID[1], 1)
            width = appearance_channels
            self.appearance = nn.Sequential(
                nn.Conv3d(self.atlas.channels + lifted_channels + sign_maps, width, 1),
                nn.SiLU(),
                nn.Conv3d(width, width, 3, 1, 1),
                nn.SiLU(),
                nn.Conv3d(width, latent_channels, 1),
            )
            self.atlas_to_latents = nn.Conv3d(self.atlas.channels, latent_channels, 1)

    @property
    def spatial_channels(self) -> int:
        """Channels of the spatial conditioning."""
        lifted = self.config["lifted_channels"] + self.config["sign_maps"]
        return lifted + (self.config["latent_channels"] if self.atlas else 0)

    def forward(self, image: torch.Tensor, lifted: int | None = None) -> XrayFeatures:
        """The features of a batch of frames.

        Args:
            image: (B, 1, P, P) in [0, 1], from preprocessing.frame.frame_image.
            lifted: number of cases, from the first, for which the expensive lifted features are computed;
                None for all. 0 also leaves out the map: embedding, PE and signs need neither.
        """
        depth, planes, width = self.config["latent_grid"]
        x = self.stem(2 * image - 1)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = deepest = skips.pop()
        embedding = self.embed(deepest)
        for block in self.up:
            skip = skips.pop()
            x = functional.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = block(torch.cat([skip, x], 1))
        x = functional.adaptive_avg_pool2d(self.to_depths(x), (depth, width))
        maps = self.depth_head(x[:lifted]).unflatten(1, (self.config["lifted_channels"], -1))
        if self.see_signs is not None:
            signs = self.see_signs(x)
            seen = strongest_places(signs, _STRONGEST_CELLS).sigmoid().flatten(1)
            embedding = embedding + self.sign_embedding(seen)
            # Detached: only their own loss trains the sign maps.
            shown = signs[:lifted].detach().sigmoid()[:, :, None].expand(-1, -1, planes, -1, -1)
            maps = torch.cat([maps, shown], 1)
        return XrayFeatures(
            embedding,
            self.lift(maps),
            self.pe_head(embedding).squeeze(1),
            None if self.atlas is None or lifted == 0 else self._template_map(self.atlas, deepest, x),
        )

    def condition(self, image: torch.Tensor) -> XrayConditioning:
        """(B, 1, P, P) frame images in [0, 1] -> conditioning of the denoiser."""
        return self.conditioning(self(image.to(self.device, self.dtype)))

    def conditioning(self, features: XrayFeatures) -> XrayConditioning:
        """The conditioning made from ``features``."""
        expected = self.expected_latents(features)
        spatial = features.lifted if self.atlas is None else torch.cat([expected, features.lifted], 1)
        return XrayConditioning(features.embedding, spatial, expected.float(), features, self)

    def _template_map(
        self, atlas: DeformableAtlas, deepest: torch.Tensor, depths: torch.Tensor
    ) -> torch.Tensor:
        """(B, 3, *MAP_GRID) float32: the sum of the mean map, a coarse change predicted from the whole
        radiograph, and a fine change predicted from each place of the radiograph."""
        points = _COARSE_MAP_POINTS
        coarse = self.coarse_map(deepest).float().unflatten(1, (3, points, points, points))
        rows = functional.adaptive_avg_pool2d(depths, (MAP_GRID[0], MAP_GRID[2]))
        fine = self.fine_map(rows).float().flip(2).unflatten(1, (3, MAP_GRID[1])).transpose(2, 3)
        return atlas.mean_map.float() + MAP_UNIT * (resized(coarse, MAP_GRID) + fine)

    def expected_latents(
        self, features: XrayFeatures, template_map: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, latent_channels, D, H, W): the expected latents given the radiograph.

        Args:
            features: of the radiographs.
            template_map: the map into the atlas; None takes the expected map in ``features``.
        """
        if self.atlas is None:
            return features.lifted[:, : self.config["latent_channels"]]
        where = features.template_map if template_map is None else template_map
        warped = self.atlas(where).to(features.lifted.dtype)
        return self.atlas_to_latents(warped) + self.appearance(torch.cat([warped, features.lifted], 1))
