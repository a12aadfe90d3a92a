"""Stage: the latent PE classifier."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.data.findings import EVIDENCE
from xray2ctpa_core.models.classifiers.pe_classifier import STRONGEST_PLACES, PEClassifier, Reading

#: Weight of places with a finding over those without: even the largest finding covers few places.
_PLACES_WEIGHT = 8.0
#: Weight of the places' mean cross-entropy, low because most places are easy, over the patients'.
_PLACES_SHARE = 20.0


class PEClassifierStage:
    """Cross-entropy on latents with added noise, cyclically shifted by up to two cells.

    A classifier with evidence maps learns each finding separately: its place, and its presence in the
    patient. With the label as target, visible clots would explain it and the radiographic signs would not be
    learned; yet generated volumes can only contain those signs. `readout.fit_readout` fits the weights of
    the findings for PE afterwards.

    Args:
        classifier: the module.
        noise: largest standard deviation of the noise added to standardised latents.
    """

    def __init__(self, classifier: PEClassifier, noise: float) -> None:
        self.module: nn.Module = _Reading(classifier)
        self._noise = noise

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
        reading, shown = module(latents + self._noise * level * noise)
        if reading.maps is None:
            logits = reading.logit.float().squeeze(1)
            loss = entropy(logits, batch["label"])
            terms = {"pe": loss, "accuracy": ((logits > 0) == (batch["label"] > 0.5)).float().mean()}
        else:
            where = batch["evidence"].roll(shifts, (2, 3, 4))
            patients = where.flatten(2).amax(2)
            where = functional.adaptive_max_pool3d(where, reading.maps.shape[2:])
            weight = torch.tensor(_PLACES_WEIGHT, device=where.device)
            terms = {
                "places": entropy(reading.maps.float(), where, pos_weight=weight),
                "patients": entropy(shown.float(), patients),
            }
            loss = _PLACES_SHARE * terms["places"] + terms["patients"]
        return loss, {name: term.detach() for name, term in terms.items()}


class _Reading(nn.Module):
    """The classifier with `read` as its forward pass for the loop, and a presence logit of each finding from
    its own map."""

    def __init__(self, classifier: PEClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.weight = nn.Parameter(torch.full((len(EVIDENCE), len(STRONGEST_PLACES)), 0.3))
        self.bias = nn.Parameter(torch.zeros(len(EVIDENCE)))

    def forward(self, latents: torch.Tensor) -> tuple[Reading, torch.Tensor | None]:
        reading = self.classifier.read(latents)
        if reading.strongest is None:
            return reading, None
        return reading, (reading.strongest * self.weight).sum(2) + self.bias
