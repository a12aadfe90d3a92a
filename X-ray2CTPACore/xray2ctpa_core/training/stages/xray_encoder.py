"""Stage: the X-ray encoder, trained to predict map, latents, PE and its signs from a radiograph."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.data.real_radiographs import SIGN_RATES
from xray2ctpa_core.models.encoders.xray_encoder import MAP_UNIT, XrayEncoder, XrayFeatures
from xray2ctpa_core.simulation.signs import SIGNS

#: Cells (D, H, W) over which latents are averaged to the target of the embedding.
_COARSE = (8, 4, 4)
#: Cells along an edge of the coarse map that is predicted from the embedding.
_COARSE_MAP = 4
#: Weight of the map's error in the air around the body.
_AIR_WEIGHT = 0.05
#: Weight of places with a sign over those without.
_SHOWN_WEIGHT = 4.0
#: Weight of the places' mean cross-entropy, low because most places are easy, over the patients'.
_PLACES_SHARE = 20.0
#: Running mean of a sign's frequency in real radiographs: weight of the newest batch, and initial value.
_NEWEST_SHARE, _FIRST_MEAN = 0.3, 0.5
#: The running mean is clamped to this distance from 0 and 1, where the gradient is unbounded.
_LEAST_MEAN = 0.005


class Readings(NamedTuple):
    """Outputs of encoder and heads for a batch of B radiographs, of which the first b have latents.

    Attributes:
        features: outputs of the encoder.
        expected: (b, C, D, H, W) latents, under the true map where there is one.
        coarse: (B, C, D/8, H/4, W/4) latents, predicted from the embedding.
        signs: (B, S) logits of the signs, from the embedding.
        shown: (B, S) logits of the signs' presence, from the sign maps; None without sign maps.
        body: (B, 1, *MAP_GRID), atlas' body mask under the true map; None without an atlas.
        coarse_map_error: mean squared error of the coarse map from the embedding; None without an atlas.
        real_error: of `EncoderWithHeads.rate_error`; None without real radiographs.
    """

    features: XrayFeatures
    expected: torch.Tensor
    coarse: torch.Tensor
    signs: torch.Tensor
    shown: torch.Tensor | None
    body: torch.Tensor | None
    coarse_map_error: torch.Tensor | None
    real_error: torch.Tensor | None


class EncoderWithHeads(nn.Module):
    """The encoder with additional heads for training: coarse latents, coarse map and signs, all from the
    embedding."""

    real_mean: torch.Tensor

    def __init__(self, encoder: XrayEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        grid = [n // c for n, c in zip(encoder.config["latent_grid"], _COARSE, strict=True)]
        self.shape = (encoder.config["latent_channels"], *grid)
        width = encoder.config["embedding_dim"]
        self.coarse = nn.Linear(width, self.shape[0] * grid[0] * grid[1] * grid[2])
        self.coarse_map = nn.Linear(width, 3 * _COARSE_MAP**3)
        self.signs = nn.Linear(width, len(SIGNS))
        # A sign's presence is read from the strongest places of its own map only.
        self.weight = nn.Parameter(torch.full((len(SIGNS), 3), 0.3))
        self.bias = nn.Parameter(torch.zeros(len(SIGNS)))
        # Saved with the weights, so that a resumed run continues with it.
        self.register_buffer("real_mean", torch.full((len(SIGNS),), _FIRST_MEAN))

    def forward(
        self,
        image: torch.Tensor,
        template_map: torch.Tensor | None,
        dense: int,
        real: torch.Tensor | None = None,
    ) -> Readings:
        """Args: image: (B, 1, P, P); template_map: true maps, NaN where unknown; dense: b of Readings; real:
        (R, 1, P, P), radiographs without labels."""
        features = self.encoder(image if real is None else torch.cat([image, real]), dense)
        strongest, real_error = features.strongest_signs, None
        if real is not None and strongest is not None:
            real_error = self.rate_error(strongest[len(image) :, :, 0].float().sigmoid())
        features = features.first(len(image))
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
        strongest = features.strongest_signs
        shown = None if strongest is None else (strongest * self.weight).sum(2) + self.bias
        return Readings(
            features, expected, coarse, self.signs(features.embedding), shown, body, error, real_error
        )

    def rate_error(self, shown: torch.Tensor) -> torch.Tensor:
        """Loss that moves the frequency of a sign in real radiographs towards its published rate.

        Expectation regularisation (Mann & McCallum, ICML 2007): the cross-entropy between published rate and
        mean probability. The mean of one small batch is unreliable, and its gradient would move each
        radiograph to the rate itself. The gradient is therefore computed at the running mean of earlier
        batches: all probabilities of the batch move up or down together, uncertain ones the most.

        Args:
            shown: (R, S) probability of each sign's presence in each radiograph, 0 to 1.

        Returns:
            (), a term with that gradient; its value has no meaning.
        """
        newest, error = shown.mean(0), shown.new_zeros(())
        for number, sign in enumerate(SIGNS):
            if sign.name in SIGN_RATES:
                mean = float(self.real_mean[number].clamp(_LEAST_MEAN, 1 - _LEAST_MEAN))
                error = error + (mean - SIGN_RATES[sign.name]) / (mean * (1 - mean)) * newest[number]
        self.real_mean.lerp_(newest.detach(), _NEWEST_SHARE)
        return error


class XrayEncoderStage:
    """Squared errors, whose minimum is the expectation given the radiograph, and cross-entropies.

    The latents are predicted under the true map, so that appearance and position are learned separately. The
    embedding is trained to predict coarse averages of latents and map, PE and its signs.

    A batch holds radiographs with latents (data.study_data), alone or together with radiographs without
    latents (data.radiograph_cohort). Map, PE and signs are learned on every radiograph for which they are
    known (NaN where not). Real radiographs (data.real_radiographs) add the term of the signs' frequency.

    Args:
        encoder: the module.
        map_weight: weight of the map's squared error, in units of models.encoders.xray_encoder.MAP_UNIT.
        pe_weight: weight of the cross-entropies of PE and of its signs.
        channel_weights: (1, C, 1, 1, 1) weight of each latent channel.
        dense_every: the latents' loss is computed on every n-th case of a batch: few volumes suffice for the
            small 3D network, and one costs as much time as several radiographs.
        sign_weight: weight of the sign maps' cross-entropies, where the encoder has such maps: of the signs'
            places, on radiographs with "shadows", and of their presence.
        real_weight: weight of `EncoderWithHeads.rate_error`.
    """

    def __init__(
        self,
        encoder: XrayEncoder,
        map_weight: float,
        pe_weight: float,
        channel_weights: torch.Tensor,
        dense_every: int = 1,
        sign_weight: float = 0.0,
        real_weight: float = 0.0,
    ) -> None:
        self.module: nn.Module = EncoderWithHeads(encoder)
        self._real_weight = real_weight
        self._dense_every = dense_every
        self._channel_weights = channel_weights
        self._map_weight, self._pe_weight, self._sign_weight = map_weight, pe_weight, sign_weight

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        batch = self._one_batch(batch)
        latents, true_map = batch["latents"], batch.get("template_map")
        readings = module(batch["image"], true_map, len(latents), batch.get("real_image"))
        weights = self._channel_weights.to(latents)
        entropy = known_entropy
        coarse = functional.avg_pool3d(latents, _COARSE)
        terms = {
            "mse": (weights * (readings.expected.float() - latents) ** 2).mean(),
            "coarse_mse": (weights * (readings.coarse[: len(latents)].float() - coarse) ** 2).mean(),
            "pe": entropy(readings.features.pe_logit.float(), batch["label"]),
            "signs": entropy(readings.signs.float(), batch["signs"]),
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
        if readings.shown is not None and readings.features.signs is not None and "shadows" in batch:
            radiographs = len(batch["shadows"])
            logits = readings.features.signs[-radiographs:]
            shadows = functional.adaptive_max_pool2d(batch["shadows"], logits.shape[2:])
            weight = torch.tensor(_SHOWN_WEIGHT, device=logits.device)
            terms["places"] = functional.binary_cross_entropy_with_logits(logits, shadows, pos_weight=weight)
            terms["shown"] = entropy(readings.shown.float(), batch["signs"])
            loss = loss + self._sign_weight * (_PLACES_SHARE * terms["places"] + terms["shown"])
        if readings.real_error is not None:
            terms["real"] = readings.real_error
            loss = loss + self._real_weight * terms["real"]
        return loss, {name: term.detach() for name, term in terms.items()}

    def _one_batch(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One batch: first every n-th case with latents (n = ``dense_every``), then radiographs without
        latents."""
        dense = -(-len(batch["image"]) // self._dense_every)
        if "latent_image" not in batch:
            return batch | {"latents": batch["latents"][:dense]}
        prefix = "latent_"
        beside = {name.removeprefix(prefix): batch[name][:dense] for name in batch if name.startswith(prefix)}
        shared = {name: torch.cat([beside[name], batch[name]]) for name in beside if name in batch}
        whole = {name: batch[name] for name in ("shadows", "real_image") if name in batch}
        return beside | shared | whole


def mean_of_known(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean () of ``values`` where ``known``; 0 where nothing is known. Unknown values get no gradient."""
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


def known_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy () over the known targets; NaN marks unknown ones."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    return mean_of_known(entropy, ~targets.isnan())
