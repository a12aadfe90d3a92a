"""Stage: the latent PE classifier."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.cohort.signs import SIGNS
from xray2ctpa_core.networks.pe_classifier import PEClassifier, Reading

#: Weight of a place with clot over one without: about one place in 400 holds clot.
_CLOT_PLACES_WEIGHT = 20.0


class PEClassifierStage:
    """Cross-entropy on latents with added noise, shifted by two cells (around the edges).

    With a clot head its parts are also taught apart: the clot map where clots are, and the rest of the logit
    the probability of PE given the signs alone. Clots tell the label whenever they can be seen, and then
    nothing would teach the signs, which are all that a volume generated from a radiograph can show.

    Args:
        classifier: the module.
        noise: largest standard deviation of the noise added to standardised latents.
        clot_weight: of the clots' cross-entropy.
        signs_weight: of the signs' and of their evidence's.
    """

    def __init__(
        self, classifier: PEClassifier, noise: float, clot_weight: float = 0.0, signs_weight: float = 0.0
    ) -> None:
        self.module: nn.Module = _Reading(classifier)
        self._noise, self._clot_weight, self._signs_weight = noise, clot_weight, signs_weight

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents = batch["latents"]
        entropy = functional.binary_cross_entropy_with_logits
        shifts = (2 * torch.randint(-1, 2, (3,), generator=generator, device=latents.device)).tolist()
        latents = latents.roll(shifts, (2, 3, 4))
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        level = torch.rand(len(latents), 1, 1, 1, 1, generator=generator, device=latents.device)
        reading, signs = module(latents + self._noise * level * noise)
        logits = reading.logit.float().squeeze(1)
        loss = entropy(logits, batch["label"])
        terms = {"pe": loss, "accuracy": ((logits > 0) == (batch["label"] > 0.5)).float().mean()}
        if reading.clots is not None:
            clots = reading.clots
            steps = [n // m for n, m in zip(latents.shape[2:], clots.shape[1:], strict=True)]
            where = functional.adaptive_max_pool3d(batch["clots"][:, None], clots.shape[1:])[:, 0]
            where = where.roll([shift // step for shift, step in zip(shifts, steps, strict=True)], (1, 2, 3))
            places = torch.tensor(_CLOT_PLACES_WEIGHT, device=where.device)
            terms["clots"] = entropy(clots.float(), where, pos_weight=places)
            terms["signs"] = entropy(signs.float(), batch["signs"])
            without = reading.without_clots.float().squeeze(1)
            terms["signs_pe"] = entropy(without, batch["sign_probability"])
            loss = loss + self._clot_weight * terms["clots"]
            loss = loss + self._signs_weight * (terms["signs"] + terms["signs_pe"])
        return loss, {name: term.detach() for name, term in terms.items()}


class _Reading(nn.Module):
    """The classifier with `read` as its forward pass, as the loop calls it, and a reading of the signs."""

    def __init__(self, classifier: PEClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.signs = nn.Linear(classifier.feature_count, len(SIGNS))

    def forward(self, latents: torch.Tensor) -> tuple[Reading, torch.Tensor]:
        reading = self.classifier.read(latents)
        return reading, self.signs(reading.features)
