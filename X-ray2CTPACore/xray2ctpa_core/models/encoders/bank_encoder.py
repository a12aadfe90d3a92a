"""The radiograph encoder of a bank of atlases: a map into the bank, a coarse volume, findings, and PE.

Everything is read off linearly and fitted in closed form (training.bank_read_outs): a deep network overfits
to the few people of a bank.
"""

from dataclasses import dataclass, replace

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.models.codecs.fold_codec import folded
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.atlas_bank import AtlasBank, MeanAtlas
from xray2ctpa_core.models.encoders.oriented_gradients import FEATURES, by_cell, radiograph_features
from xray2ctpa_core.models.protocols import Conditioning

#: Nodes along an edge of the parts of a map: it is smooth.
BASIS_NODES = 8
#: Around the body a sample is air where the expected volume is at most the first, and keeps its share of the
#: difference where it is at least the second, in [-1, 1] (about -900 and -430 HU).
_AIR = (-0.9, -0.4)
#: A coarse volume's part has its greatest value at this, in 8 bits.
_BYTE = 127.0


@dataclass(frozen=True)
class BankFeatures:
    """What the encoder makes of a batch of frames.

    Attributes:
        embedding: (B, embedding_dim), everything that is read off.
        template_map: (B, 3, *MAP_GRID) float32, the map into the bank.
        coarse: (B, 1, *coarse grid) float32 in [-1, 1], the expected volume.
        pe_logit: (B,); signs: (B, S) logits.
    """

    embedding: torch.Tensor
    template_map: torch.Tensor
    coarse: torch.Tensor
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
        """(B, 3, *MAP_GRID), the map into the bank from which samples depart."""
        return self._known()[0].template_map

    def latents(
        self, template_map: torch.Tensor, person: torch.Tensor, drawn: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, C, d, h, w): the tissue of ``person`` (B,) bent by the map, nearer to the expected volume,
        folded; that volume is moved as far as the map ``drawn`` for the sample departs from the expected."""
        features, encoder = self._known()
        if drawn is not None:
            features = replace(features, coarse=moved(features.coarse, features.template_map, drawn))
        return encoder.fold(encoder.volume(features, template_map, person))

    def _known(self) -> tuple[BankFeatures, "BankEncoder"]:
        if self.features is None or self.encoder is None:
            raise ValueError("Expected the conditioning of an encoder with a bank, got one without encoder.")
        return self.features, self.encoder


class BankEncoder(ModelMixin, ConfigMixin):
    """Reads a map into a bank of atlases, and the coarse volume that is expected, off a radiograph.

    Map and coarse volume are the mean ones, changed along those components that radiographs tell most of
    (reduced-rank regression: Izenman, Journal of Multivariate Analysis 1975). Features are oriented gradients
    and greys (models.encoders.oriented_gradients).

    Args:
        people: K of the bank.
        bank_shape: (D, H, W) of each atlas.
        grid: (D, H, W) of the volume; fold: voxels along the edges of a latent cell.
        parts: components of the read-out, of the map and of the coarse volume each.
        coarse: (D, H, W) of the coarse volume.
        signs: radiographic signs that are told apart.
        share: of the coarse difference of bent tissue from the expected volume, added to a sample: it is
            expected, but blurred.
        read_std: standard deviation of each component that is read off, over the patients of training; () if
            unknown.
        usual_distance: `distance` that 95 % of the patients of training do not exceed; 0 if unknown.
    """

    @register_to_config
    def __init__(
        self,
        people: int = 4,
        bank_shape: tuple[int, ...] = (89, 101, 139),
        grid: tuple[int, ...] = (64, 128, 128),  # noqa: ARG002 - read from the configuration
        fold: tuple[int, ...] = (2, 4, 4),  # noqa: ARG002 - read from the configuration
        parts: int = 64,
        coarse: tuple[int, ...] = (32, 32, 32),
        signs: int = 8,
        share: float = 0.45,  # noqa: ARG002 - read from the configuration
        read_std: tuple[float, ...] = (),  # noqa: ARG002 - read from the configuration
        usual_distance: float = 0.0,  # noqa: ARG002 - read from the configuration
    ) -> None:
        super().__init__()
        self.bank = AtlasBank(people, bank_shape)
        self.mean_map: torch.Tensor
        self.map_parts: torch.Tensor
        self.mean_coarse: torch.Tensor
        self.coarse_parts: torch.Tensor
        self.register_buffer("mean_map", torch.zeros(3, *MAP_GRID))
        self.register_buffer("map_parts", torch.zeros(parts, 3, *(BASIS_NODES,) * 3))
        self.register_buffer("mean_coarse", torch.zeros(*coarse))
        self.register_buffer("coarse_parts", torch.zeros(parts, *coarse, dtype=torch.int8))
        self.mean_features: torch.Tensor
        self.register_buffer("mean_features", torch.zeros(FEATURES))
        self._sizes = (parts, parts, signs, 1)
        self.linear = nn.Linear(FEATURES, sum(self._sizes))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.added = nn.Identity()

    @property
    def embedding_dim(self) -> int:
        """Length of the embedding."""
        return sum(self._sizes)

    def forward(self, image: torch.Tensor, cases: int | None = None) -> BankFeatures:
        """The features of a batch of frames (B, 1, P, P) in [0, 1]; the map is the expected one. Of the first
        ``cases`` alone those in space; None: of all."""
        read = self.linear(self._centred(image).to(self.linear.weight.dtype)).float()
        of_map, parts, signs, pe = read.split(self._sizes, 1)
        coarse = self.mean_coarse.float() + torch.einsum(
            "bk,kzyx->bzyx", parts[:cases] / _BYTE, self.coarse_parts.float()
        )
        return BankFeatures(
            read,
            self.mean_map.float() + _change(of_map[:cases], self.map_parts),
            coarse[:, None].clamp(-1, 1),
            pe.squeeze(1),
            signs,
        )

    def _centred(self, image: torch.Tensor) -> torch.Tensor:
        return radiograph_features(image) - self.mean_features.float()

    #: Module whose activation Grad-CAM of the radiograph reads: what each cell adds to the logit of PE.
    gradcam_layer = "added"

    def explained(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B, 1) logits of PE, as the sum of what each cell of the radiograph adds, which
        ``added`` gives: (B, 1, CELLS, CELLS)."""
        cells = self.added(by_cell(self._centred(image) * self.linear.weight[-1].float()))
        return cells.flatten(1).sum(1, keepdim=True) + self.linear.bias[-1].float()

    def distance(self, features: BankFeatures) -> torch.Tensor | None:
        """(B,) how far radiographs are from those of training: root mean square over the components of map
        and coarse volume, each in standard deviations; about 1 for those of training. None if unknown."""
        known = self.config["read_std"]
        if not known:
            return None
        read = features.embedding[:, : len(known)].cpu()  # the one time that a GPU is waited for
        std = torch.tensor(known)
        return ((read / std.clamp(min=1e-6)).square() * (std > 0)).sum(1).div((std > 0).sum()).sqrt()

    @property
    def atlas(self) -> MeanAtlas:
        """What a map is aligned by (diffusion.alignment)."""
        return MeanAtlas((self.bank.mean() + 1) * 127.5)

    def volume(
        self, features: BankFeatures, template_map: torch.Tensor, person: torch.Tensor
    ) -> torch.Tensor:
        """(B, 1, *grid) float32 in [-1, 1]: the tissue of ``person`` (B,), bent by the map, nearer to the
        expected volume by ``share`` of what is coarse."""
        bent = self.bank(template_map, person, self.config["grid"])
        outside = self.bank.outside(template_map, self.config["grid"])
        return self.nearer(bent, features.coarse, self.config["share"], outside)

    def expected_volume(self, features: BankFeatures) -> torch.Tensor:
        """(B, 1, *grid) float32 in [-1, 1]: the bank's bent mean, with all of the coarse difference."""
        people = len(self.bank.intensities)
        weights = torch.full((len(features.coarse), people), 1 / people, device=features.coarse.device)
        bent = self.bank.mixed(features.template_map, weights, self.config["grid"])
        return self.nearer(bent, features.coarse, 1.0)

    @staticmethod
    def nearer(
        bent: torch.Tensor, coarse: torch.Tensor, share: float, outside: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Volumes (B, 1, D, H, W), nearer to ``coarse`` (B, 1, ...) by ``share`` of the coarse difference.

        Where ``outside`` (B, 1, D, H, W) is 1 and the expected volume is almost air, they are air: a share of
        the difference would leave a fog around the body.
        """
        depth, height, width = coarse.shape[2:]
        rest = coarse - functional.adaptive_avg_pool3d(bent, (depth, height, width))
        rest = functional.interpolate(rest, size=bent.shape[2:], mode="trilinear", align_corners=False)
        volumes = (bent + share * rest).clamp(-1, 1)
        if outside is None:
            return volumes
        lower, upper = _AIR
        air = outside * ((upper - bent - rest) / (upper - lower)).clamp(0, 1)
        return volumes - air * (volumes + 1)

    def fold(self, volumes: torch.Tensor) -> torch.Tensor:
        """(B, 1, *grid) -> (B, C, d, h, w), the latents."""
        depth, height, width = self.config["fold"]
        return folded(volumes, (depth, height, width))

    def condition(self, image: torch.Tensor) -> BankConditioning:
        """See RadiographEncoder. Latents are expected of no sample: they are bent tissue, and the expected
        volume, which takes as long as a sample's, is made for who asks (`expected_volume`)."""
        features = self(image)
        return BankConditioning(features.embedding, features=features, encoder=self)


def moved(volume: torch.Tensor, expected: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """``volume`` (B, 1, D, H, W), which lies as the ``expected`` map (B, 3, *MAP_GRID) says, to where it lies
    by the one that was ``drawn`` (K, 3, *MAP_GRID), B being 1 or K: (K, 1, D, H, W).

    What one map has more than the other is divided by the mean slope of the expected along each axis."""
    axes = [(torch.arange(n, device=volume.device) + 0.5) * (2 / n) - 1 for n in volume.shape[2:]]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    centres = torch.stack([x, y, z], -1)[None].expand(len(drawn), -1, -1, -1, -1)
    slopes = [  # of x, y and z, along the last axis, the last but one, and that before
        expected[:, channel].diff(dim=3 - channel).mean((1, 2, 3)) * (expected.shape[4 - channel] - 1) / 2
        for channel in range(3)
    ]
    shift = (drawn - expected).float() / torch.stack(slopes, 1)[:, :, None, None, None]
    shift = functional.grid_sample(shift, centres, padding_mode="border", align_corners=True)
    places = centres + shift.permute(0, 2, 3, 4, 1)
    here = volume.expand(len(drawn), -1, -1, -1, -1)
    return functional.grid_sample(here, places, padding_mode="border", align_corners=False)


def _change(along: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """(B, K) along parts (K, 3, n, n, n) -> (B, 3, *MAP_GRID), the change of a map."""
    return resized(torch.einsum("bk,kczyx->bczyx", along, parts.float()), MAP_GRID)
