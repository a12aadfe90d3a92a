"""Stage: the latent PE classifier."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.data.findings import EVIDENCE
from xray2ctpa_core.models.classifiers.pe_classifier import STRONGEST_PLACES, PEClassifier, Reading

#: Weight of a place that shows a kind of evidence over one that does not: even the largest covers few.
_PLACES_WEIGHT = 8.0
#: Of the places' cross-entropy, most of whose places are easy, over the patients'.
_PLACES_SHARE = 20.0


class PEClassifierStage:
    """Cross-entropy on latents with added noise, shifted by two cells (around the edges).

    With evidence maps it is taught each kind of evidence apart, place by place and whether the patient shows
    it at all: clots tell the label wherever they can be seen, and then nothing would teach the radiographic
    signs, which are all that a volume generated from a radiograph can show. What they say of PE together is
    `readout.fit_readout`'s.

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
    """The classifier with `read` as its forward pass, as the loop calls it, and whether each kind of evidence
    is there at all, read off its own map."""

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
