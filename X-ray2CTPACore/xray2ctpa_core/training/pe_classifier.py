"""Stage: the latent PE classifier."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.networks.pe_classifier import PEClassifier

#: Weight of a place with clot over one without: about one place in 400 holds clot.
_CLOT_PLACES_WEIGHT = 20.0


class PEClassifierStage:
    """Cross-entropy on latents with added noise, shifted by two cells (around the edges); with a clot head
    also the cross-entropy of clot at every place.

    Args:
        classifier: the module.
        noise: largest standard deviation of the noise added to standardised latents.
        clot_weight: of the clots' cross-entropy.
    """

    def __init__(self, classifier: PEClassifier, noise: float, clot_weight: float = 0.0) -> None:
        self.module: nn.Module = _Reading(classifier)
        self._noise, self._clot_weight = noise, clot_weight

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents = batch["latents"]
        shifts = (2 * torch.randint(-1, 2, (3,), generator=generator, device=latents.device)).tolist()
        latents = latents.roll(shifts, (2, 3, 4))
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        level = torch.rand(len(latents), 1, 1, 1, 1, generator=generator, device=latents.device)
        logits, clots = module(latents + self._noise * level * noise)
        logits = logits.float().squeeze(1)
        loss = functional.binary_cross_entropy_with_logits(logits, batch["label"])
        terms = {"pe": loss, "accuracy": ((logits > 0) == (batch["label"] > 0.5)).float().mean()}
        if clots is not None:
            steps = [n // m for n, m in zip(latents.shape[2:], clots.shape[1:], strict=True)]
            where = functional.adaptive_max_pool3d(batch["clots"][:, None], clots.shape[1:])[:, 0]
            where = where.roll([shift // step for shift, step in zip(shifts, steps, strict=True)], (1, 2, 3))
            terms["clots"] = functional.binary_cross_entropy_with_logits(
                clots.float(), where, pos_weight=torch.tensor(_CLOT_PLACES_WEIGHT, device=where.device)
            )
            loss = loss + self._clot_weight * terms["clots"]
        return loss, {name: term.detach() for name, term in terms.items()}


class _Reading(nn.Module):
    """The classifier with `read` as its forward pass, as the loop calls it."""

    def __init__(self, classifier: PEClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.classifier.read(latents)
