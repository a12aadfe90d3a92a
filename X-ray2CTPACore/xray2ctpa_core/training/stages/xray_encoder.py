"""Stage: a radiograph encoder, trained to predict map, latents, PE and its signs from a radiograph."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.encoders.xray_encoder import MAP_UNIT, XrayEncoder, XrayFeatures
from xray2ctpa_core.simulation.signs import SIGNS

#: Cells (D, H, W) over which latents are averaged to the target of the embedding.
_COARSE = (8, 4, 4)
#: Cells along an edge of the coarse map that is predicted from the embedding.
_COARSE_MAP = 4
#: Weight of the map's error in the air around the body.
_AIR_WEIGHT = 0.05


class Readings(NamedTuple):
    """Outputs of encoder and heads for a batch of B radiographs, of which the first b teach their latents.

    Attributes:
        features: outputs of the encoder.
        expected: (b, C, D, H, W) latents, under the true map where there is one.
        coarse: (B, C, D/8, H/4, W/4) latents, predicted from the embedding.
        signs: (B, S) logits of the signs, from the embedding.
        body: (B, 1, *MAP_GRID), atlas' body mask under the true map; None without an atlas.
        coarse_map_error: mean squared error of the coarse map from the embedding; None without an atlas.
    """

    features: XrayFeatures
    expected: torch.Tensor
    coarse: torch.Tensor
    signs: torch.Tensor
    body: torch.Tensor | None
    coarse_map_error: torch.Tensor | None


class EncoderWithHeads(nn.Module):
    """The encoder with additional heads for training: coarse latents, coarse map and signs, all from the
    embedding."""

    def __init__(self, encoder: XrayEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        grid = [n // c for n, c in zip(encoder.config["latent_grid"], _COARSE, strict=True)]
        self.shape = (encoder.config["latent_channels"], *grid)
        width = encoder.config["embedding_dim"]
        self.coarse = nn.Linear(width, self.shape[0] * grid[0] * grid[1] * grid[2])
        self.coarse_map = nn.Linear(width, 3 * _COARSE_MAP**3)
        self.signs = nn.Linear(width, len(SIGNS))

    def forward(self, image: torch.Tensor, template_map: torch.Tensor | None, dense: int) -> Readings:
        """Args: image: (B, 1, P, P); template_map: true maps, NaN where unknown; dense: b of Readings."""
        features = self.encoder(image, dense)
        known = None if template_map is None else ~template_map.flatten(1).isnan().any(1)
        if template_map is not None and features.template_map is not None:
            # An unknown map is replaced by the predicted one and left out of the map's loss.
            template_map = torch.where(template_map.isnan(), features.template_map.detach(), template_map)
        where = None if template_map is None else template_map[:dense]
        expected = self.encoder.expected_latents(features.first(dense), where)
        atlas, body, error = self.encoder.atlas, None, None
        if atlas is not None and template_map is not None and known is not None:
            body = atlas.body(template_map)
            change = functional.adaptive_avg_pool3d((template_map - atlas.mean_map) / MAP_UNIT, _COARSE_MAP)
            error = (self.coarse_map(features.embedding).float() - change.flatten(1)).square().mean(1)
            error = mean_of_known(error, known)
        coarse = self.coarse(features.embedding).unflatten(1, self.shape)
        return Readings(features, expected, coarse, self.signs(features.embedding), body, error)


class XrayEncoderStage:
    """Squared errors, whose minimum is the expectation given the radiograph, and cross-entropies.

    The latents are predicted under the true map, so that appearance and position are learned separately. The
    embedding is trained to predict coarse averages of latents and map, PE and its signs.

    Map, PE and signs are learned on every radiograph for which they are known (NaN where not).

    Args:
        encoder: the module.
        map_weight: weight of the map's squared error, in units of models.encoders.xray_encoder.MAP_UNIT.
        pe_weight: weight of the cross-entropies of PE and of its signs.
        channel_weights: (1, C, 1, 1, 1) weight of each latent channel.
        dense_every: the latents' loss is computed on every n-th case of a batch: few volumes suffice for the
            small 3D network, and one costs as much time as several radiographs.
    """

    def __init__(
        self,
        encoder: XrayEncoder,
        map_weight: float,
        pe_weight: float,
        channel_weights: torch.Tensor,
        dense_every: int = 1,
    ) -> None:
        self.module: nn.Module = EncoderWithHeads(encoder)
        self._dense_every = dense_every
        self._channel_weights = channel_weights
        self._map_weight, self._pe_weight = map_weight, pe_weight

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        dense = -(-len(batch["image"]) // self._dense_every)
        latents, true_map = batch["latents"][:dense], batch.get("template_map")
        readings = module(batch["image"], true_map, dense)
        weights = self._channel_weights.to(latents)
        coarse = functional.avg_pool3d(latents, _COARSE)
        terms = {
            "mse": (weights * (readings.expected.float() - latents) ** 2).mean(),
            "coarse_mse": (weights * (readings.coarse[: len(latents)].float() - coarse) ** 2).mean(),
            "pe": known_entropy(readings.features.pe_logit.float(), batch["label"]),
            "signs": known_entropy(readings.signs.float(), batch["signs"]),
        }
        loss = terms["mse"] + terms["coarse_mse"] + self._pe_weight * (terms["pe"] + terms["signs"])
        predicted = readings.features.template_map
        if predicted is not None and true_map is not None and readings.body is not None:
            weight = _AIR_WEIGHT + (1 - _AIR_WEIGHT) * readings.body
            known = ~true_map.flatten(1).isnan().any(1)
            error = (weight * ((predicted - true_map.nan_to_num()) / MAP_UNIT) ** 2).flatten(1).mean(1)
            terms["map"] = mean_of_known(error, known) / weight[known].mean().nan_to_num(1.0)
            loss = loss + self._map_weight * terms["map"]
        if readings.coarse_map_error is not None:
            terms["coarse_map"] = readings.coarse_map_error
            loss = loss + terms["coarse_map"]
        return loss, {name: term.detach() for name, term in terms.items()}


def mean_of_known(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean () of ``values`` where ``known``; 0 where nothing is known. Unknown values get no gradient."""
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


def known_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy () over the known targets; NaN marks unknown ones."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    return mean_of_known(entropy, ~targets.isnan())
