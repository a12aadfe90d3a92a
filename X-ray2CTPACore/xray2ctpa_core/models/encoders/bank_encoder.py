"""The radiograph encoder of a bank of atlases: a map into the bank, whose tissue, findings, and PE."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.models.codecs.fold_codec import folded
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.atlas_bank import AtlasBank
from xray2ctpa_core.models.encoders.oriented_gradients import FEATURES, radiograph_features
from xray2ctpa_core.models.encoders.rays import RayLift
from xray2ctpa_core.models.encoders.xray_encoder import Residual
from xray2ctpa_core.models.protocols import Conditioning

#: Nodes along an edge of the directions in which maps differ most: they are smooth.
BASIS_NODES = 12
#: A coefficient of 1 in the fine part of the map is so much of the bank's half.
_FINE_UNIT = 0.05
#: The whole radiograph is read off so many cells an edge, through so many channels.
_CELLS, _CELL_CHANNELS = 6, 24


@dataclass(frozen=True)
class BankFeatures:
    """What the encoder makes of a batch of frames.

    Attributes:
        embedding: (B, embedding_dim).
        lifted: (B, lifted_channels, *latent_grid), features along the rays.
        template_map: (B, 3, *MAP_GRID) float32, the expected map into the bank.
        tissue: (B, K) logits of whose tissue it is.
        pe_logit: (B,); signs: (B, S) logits, from the radiograph alone.
    """

    embedding: torch.Tensor
    lifted: torch.Tensor
    template_map: torch.Tensor
    tissue: torch.Tensor
    pe_logit: torch.Tensor
    signs: torch.Tensor


@dataclass(frozen=True)
class BankConditioning(Conditioning):
    """The conditioning of this encoder, which also makes latents of a map and a person's tissue.

    Attributes:
        features, encoder: what it is made of.
    """

    features: BankFeatures | None = None
    encoder: "BankEncoder | None" = None

    @property
    def template_map(self) -> torch.Tensor:
        """(B, 3, *MAP_GRID), the expected map into the bank."""
        return self._known()[0].template_map

    def latents(self, template_map: torch.Tensor, person: torch.Tensor) -> torch.Tensor:
        """(B, C, d, h, w): the tissue of ``person`` (B,) bent by the map, with the findings, folded."""
        features, encoder = self._known()
        return encoder.fold(encoder.volume(features, template_map, person))

    def _known(self) -> tuple[BankFeatures, "BankEncoder"]:
        if self.features is None or self.encoder is None:
            raise ValueError("Expected the conditioning of an encoder with a bank, got one without encoder.")
        return self.features, self.encoder


class BankEncoder(ModelMixin, ConfigMixin):
    """A 2D network that reads a map into a bank of atlases off a radiograph.

    The map is the mean map, changed along the directions in which people's maps differ most, and by a fine
    change read off each place. A linear read-out of oriented gradients, solved in closed form
    (training.linear_reading), tells the directions, the tissue and the signs; a convolutional network, which
    gives nothing at first, adds to it. Fluid, opacities and the density of the lungs, which no map can make,
    are a smooth field added to the bent tissue: a small 3D network makes it of the tissue and of features
    lifted along the rays.

    Args:
        people: K of the bank.
        bank_shape: (D, H, W) of each atlas.
        grid: (D, H, W) of the volume.
        fold: voxels along the edges of a latent cell.
        directions: in which maps differ.
        channels: widths at 1/2, 1/4, ... of the frame, multiples of 8.
        lifted_channels, embedding_dim, findings_channels: sizes.
        signs: radiographic signs that are told apart.
    """

    @register_to_config
    def __init__(
        self,
        people: int = 12,
        bank_shape: tuple[int, ...] = (111, 81, 111),
        grid: tuple[int, ...] = (64, 128, 128),  # noqa: ARG002 - read from the configuration
        fold: tuple[int, ...] = (2, 4, 4),  # noqa: ARG002 - read from the configuration
        directions: int = 80,
        channels: tuple[int, ...] = (16, 32, 64, 96, 128),
        lifted_channels: int = 8,
        embedding_dim: int = 256,
        findings_channels: int = 24,
        signs: int = 8,
    ) -> None:
        super().__init__()
        if any(c % 8 for c in channels) or len(channels) < 4:
            raise ValueError(f"channels needs at least 4 multiples of 8, got {channels}.")
        self.bank = AtlasBank(people, bank_shape)
        self.mean_map: torch.Tensor
        self.basis: torch.Tensor
        self.register_buffer("mean_map", torch.zeros(3, *MAP_GRID))
        self.register_buffer("basis", torch.zeros(directions, 3, *(BASIS_NODES,) * 3))
        self.stem = nn.Conv2d(3, channels[0], 5, 2, 2)
        self.down = nn.ModuleList(
            nn.Sequential(Residual(a, b, stride=2), Residual(b, b)) for a, b in itertools.pairwise(channels)
        )
        self.whole = nn.Sequential(
            nn.GroupNorm(8, channels[-1]),
            nn.SiLU(),
            nn.Conv2d(channels[-1], _CELL_CHANNELS, 1),
            nn.AdaptiveAvgPool2d(_CELLS),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(_CELL_CHANNELS * _CELLS**2, embedding_dim),
            nn.SiLU(),
        )
        self._parts = (directions, people, signs, 1)
        self.linear = nn.Linear(FEATURES, sum(self._parts))
        _zero(self.linear)
        self.added = _zero(nn.Linear(embedding_dim, sum(self._parts)))
        self.fine_map = _zero(nn.Conv2d(channels[-2], 3 * BASIS_NODES, 1))
        planes = self.latent_grid[1]
        self.to_depths = nn.Sequential(nn.GroupNorm(8, channels[-3]), nn.SiLU())
        self.depths = nn.Conv2d(channels[-3], lifted_channels * planes, 1)
        self.lift = RayLift(planes)
        width = findings_channels
        self.findings = nn.Sequential(
            nn.Conv3d(lifted_channels + 1, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.SiLU(),
            _zero(nn.Conv3d(width, 1, 1)),
        )

    @property
    def latent_grid(self) -> tuple[int, int, int]:
        """(d, h, w) of the latents."""
        depth, height, width = (
            n // edge for n, edge in zip(self.config["grid"], self.config["fold"], strict=True)
        )
        return depth, height, width

    @property
    def spatial_channels(self) -> int:
        """Channels of the spatial conditioning: lifted features and the expected map."""
        return int(self.config["lifted_channels"]) + 3

    def set_maps(self, maps: torch.Tensor) -> None:
        """Takes the mean of maps (N, 3, *MAP_GRID) and their principal components, each as long as the
        standard deviation along it."""
        mean = maps.mean(0)
        self.mean_map.copy_(mean)
        nodes = (BASIS_NODES,) * 3
        change = resized(maps - mean, nodes).flatten(1)
        count = min(len(self.basis), *change.shape)
        with torch.random.fork_rng(devices=[]):  # the factorisation draws its start
            torch.manual_seed(0)
            _, spread, directions = torch.svd_lowrank(change.cpu().float(), count, niter=4)
        scaled = directions.T * spread[:, None] / math.sqrt(max(1, len(maps) - 1))
        self.basis.zero_()
        self.basis[:count] = scaled.view(count, 3, *nodes).to(self.basis)

    def forward(self, image: torch.Tensor) -> BankFeatures:
        """The features of a batch of frames (B, 1, P, P) in [0, 1]."""
        x = self.stem(_with_places(image))
        levels = []
        for block in self.down:
            x = block(x)
            levels.append(x)
        embedding = self.whole(x)
        read = self.linear(radiograph_features(image).to(embedding.dtype)) + self.added(embedding)
        coefficients, tissue, signs, pe = read.split(self._parts, 1)
        change = torch.einsum("bk,kczyx->bczyx", coefficients, self.basis.to(coefficients.dtype))
        rows = functional.adaptive_avg_pool2d(levels[-2], BASIS_NODES)
        fine = self.fine_map(rows).unflatten(1, (3, BASIS_NODES)).transpose(2, 3).flip(2)
        change = (change + _FINE_UNIT * fine).float()
        depth, planes, width = self.latent_grid
        maps = self.depths(functional.adaptive_avg_pool2d(self.to_depths(levels[-3]), (depth, width)))
        return BankFeatures(
            embedding,
            self.lift(maps.unflatten(1, (-1, planes))),
            self.mean_map.float() + resized(change, MAP_GRID),
            tissue.float(),
            pe.squeeze(1),
            signs,
        )

    def volume(
        self, features: BankFeatures, template_map: torch.Tensor, person: torch.Tensor
    ) -> torch.Tensor:
        """(B, 1, *grid) float32: the tissue of ``person`` (B,) bent by the map, with the findings."""
        bent = self.bank(template_map, person, self.config["grid"])
        return (bent + self.findings_in(features, bent)).clamp(-1, 1)

    def findings_in(self, features: BankFeatures, bent: torch.Tensor) -> torch.Tensor:
        """(B, 1, *grid) float32: what is added to bent tissue (B, 1, *grid)."""
        coarse = functional.adaptive_avg_pool3d(bent, self.latent_grid).to(features.lifted.dtype)
        field = self.findings(torch.cat([coarse, features.lifted], 1))
        size = tuple(self.config["grid"])
        return functional.interpolate(field.float(), size=size, mode="trilinear", align_corners=False)

    def fold(self, volumes: torch.Tensor) -> torch.Tensor:
        """(B, 1, *grid) -> (B, C, *latent_grid)."""
        depth, height, width = self.config["fold"]
        return folded(volumes, (depth, height, width))

    def condition(self, image: torch.Tensor) -> BankConditioning:
        """See RadiographEncoder: its expected latents are of all people's tissue under the expected map."""
        features = self(image)
        mixed = self.bank.mixed(features.template_map, features.tissue.softmax(1), self.config["grid"])
        expected = self.fold(mixed + self.findings_in(features, mixed))
        return BankConditioning(features.embedding, self.spatial(features), expected, features, self)

    def spatial(self, features: BankFeatures) -> torch.Tensor:
        """(B, spatial_channels, *latent_grid): lifted features and the expected map."""
        where = resized(features.template_map, self.latent_grid).to(features.lifted.dtype)
        return torch.cat([features.lifted, where], 1)


def _with_places(image: torch.Tensor) -> torch.Tensor:
    """(B, 3, P, P): the image in [-1, 1] and each pixel's column and row in [-1, 1]."""
    axes: Sequence[torch.Tensor] = [torch.linspace(-1, 1, n, device=image.device) for n in image.shape[-2:]]
    column = axes[1].view(1, 1, 1, -1).expand_as(image)
    row = axes[0].view(1, 1, -1, 1).expand_as(image)
    return torch.cat([2 * image - 1, column.to(image), row.to(image)], 1)


def _zero(layer: nn.Linear | nn.Conv2d | nn.Conv3d) -> nn.Module:
    """The layer, giving nothing at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
