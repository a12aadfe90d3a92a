"""Stage: the X-ray encoder, taught map and latents given a radiograph, PE and its signs."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.cohort.signs import SIGNS
from xray2ctpa_core.networks.xray_encoder import MAP_UNIT, XrayEncoder, XrayFeatures

#: Latents are averaged over cells of this size (D, H, W) for the embedding's own task.
_COARSE = (8, 4, 4)
#: Weight of the map's error in the air around the body.
_AIR_WEIGHT = 0.05


class Readings(NamedTuple):
    """What the encoder and its heads say of a batch.

    Attributes:
        features: the encoder's.
        expected: (b, C, D, H, W) latents of the first cases, under the true map where there is one.
        coarse: (B, C, D/8, H/4, W/4) latents read off the embedding.
        signs: (B, S) logits read off the embedding.
        body: (B, 1, *MAP_GRID), where the true map leads into the body; None without an atlas.
    """

    features: XrayFeatures
    expected: torch.Tensor
    coarse: torch.Tensor
    signs: torch.Tensor
    body: torch.Tensor | None


class EncoderWithHeads(nn.Module):
    """The encoder, with readings of coarse latents and of signs off its embedding, for training alone.

    Args:
        encoder: the module to train.
        dense_every: latents are expected for one case of so many.
    """

    def __init__(self, encoder: XrayEncoder, dense_every: int) -> None:
        super().__init__()
        self.encoder, self.dense_every = encoder, dense_every
        grid = [n // c for n, c in zip(encoder.config["latent_grid"], _COARSE, strict=True)]
        self.shape = (encoder.config["latent_channels"], *grid)
        width = encoder.config["embedding_dim"]
        self.coarse = nn.Linear(width, self.shape[0] * grid[0] * grid[1] * grid[2])
        self.signs = nn.Linear(width, len(SIGNS))

    def forward(self, image: torch.Tensor, template_map: torch.Tensor | None) -> Readings:
        """Args: image: (B, 1, P, P); template_map: the true maps, where known."""
        features = self.encoder(image)
        coarse = self.coarse(features.embedding).unflatten(1, self.shape)
        cases = -(-len(image) // self.dense_every)
        where = None if template_map is None else template_map[:cases]
        expected = self.encoder.expected_latents(features.first(cases), where)
        atlas = self.encoder.atlas
        body = None if atlas is None or template_map is None else atlas.body(template_map)
        return Readings(features, expected, coarse, self.signs(features.embedding), body)


class XrayEncoderStage:
    """Squared errors, whose minimum is the expectation given the radiograph, and cross-entropies.

    The map is learned from the true maps, the latents under the true map: how things look is told apart from
    where they lie. The embedding learns the latents' coarse averages, PE and its signs.

    Args:
        encoder: the module.
        map_weight: weight of the map's squared error, in units of networks.xray_encoder.MAP_UNIT.
        pe_weight: weight of the cross-entropies of PE and of its signs.
        channel_weights: (1, C, 1, 1, 1) weight of each latent channel.
        dense_every: latents are learned on one case of so many in a batch: a volume teaches the small 3D
            network much and costs as much as several films do the 2D one.
    """

    def __init__(
        self,
        encoder: XrayEncoder,
        map_weight: float,
        pe_weight: float,
        channel_weights: torch.Tensor,
        dense_every: int = 1,
    ) -> None:
        self.module: nn.Module = EncoderWithHeads(encoder, dense_every)
        self._channel_weights = channel_weights
        self._map_weight, self._pe_weight = map_weight, pe_weight

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents = batch["latents"]
        features, expected, coarse, signs, body = module(batch["image"], batch.get("template_map"))
        weights = self._channel_weights.to(latents)
        entropy = functional.binary_cross_entropy_with_logits
        terms = {
            "mse": (weights * (expected.float() - latents[: len(expected)]) ** 2).mean(),
            "coarse_mse": (weights * (coarse.float() - functional.avg_pool3d(latents, _COARSE)) ** 2).mean(),
            "pe": entropy(features.pe_logit.float(), batch["label"]),
            "signs": entropy(signs.float(), batch["signs"]),
        }
        loss = terms["mse"] + terms["coarse_mse"] + self._pe_weight * (terms["pe"] + terms["signs"])
        if features.template_map is not None and body is not None:
            weight = _AIR_WEIGHT + (1 - _AIR_WEIGHT) * body
            error = (features.template_map - batch["template_map"]) / MAP_UNIT
            terms["map"] = (weight * error**2).mean() / weight.mean()
            loss = loss + self._map_weight * terms["map"]
        return loss, {name: term.detach() for name, term in terms.items()}
