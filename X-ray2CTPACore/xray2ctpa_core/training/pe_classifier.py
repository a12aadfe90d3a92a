"""Stage: the latent PE classifier."""

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler
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


#: Penalties that cross-validation chooses from: from almost none to almost no weight.
_PENALTIES = np.logspace(1, 6, 11)


@torch.no_grad()
def fit_readout(classifier: PEClassifier, patients: Iterable[dict[str, torch.Tensor]]) -> float:
    """Reads the log-odds of PE given the signs off the trained features, in closed form.

    Thousands of features with a large common part and small differences between patients are badly
    conditioned for a stepwise optimiser, and labels that agree with the signs in two of three patients are
    noise to it. Ridge regression of standardised features (its penalty chosen by leave-one-out) on the known
    log-odds has neither difficulty. What the clots add is then weighed by logistic regression.

    Args:
        classifier: trained, with a clot head; its last layer and the weight of its clots are set.
        patients: of the training cohort, as LatentDataset gives them.

    Returns:
        Correlation of the fitted and the true log-odds over these patients.
    """
    classifier.eval()
    device = next(classifier.parameters()).device
    features, strongest, odds, labels = [], [], [], []
    for patient in patients:
        reading = classifier.read(patient["latents"][None].to(device))
        assert reading.strongest is not None  # see Args
        features.append(reading.features[0].float().cpu().numpy())
        strongest.append(float(reading.strongest))
        odds.append(float(torch.logit(patient["sign_probability"])))
        labels.append(int(patient["label"]))
    scaler = StandardScaler().fit(np.stack(features))
    standardised = scaler.transform(np.stack(features))
    ridge = RidgeCV(_PENALTIES).fit(standardised, odds)
    fitted = ridge.predict(standardised)
    weigher = LogisticRegression(C=1e3).fit(np.stack([fitted, strongest], 1), labels)
    from_signs, from_clots = weigher.coef_[0]
    weight = ridge.coef_ / scaler.scale_
    bias = ridge.intercept_ - weight @ scaler.mean_
    last = classifier.network.class_layers[-1]
    last.weight.copy_(torch.as_tensor(from_signs * weight)[None])
    last.bias.fill_(float(from_signs * bias))
    classifier.clot_evidence.weight.fill_(float(from_clots))
    classifier.clot_evidence.bias.fill_(float(weigher.intercept_[0]))
    return float(np.corrcoef(fitted, odds)[0, 1])


class _Reading(nn.Module):
    """The classifier with `read` as its forward pass, as the loop calls it, and a reading of the signs."""

    def __init__(self, classifier: PEClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.signs = nn.Linear(classifier.feature_count, len(SIGNS))

    def forward(self, latents: torch.Tensor) -> tuple[Reading, torch.Tensor]:
        reading = self.classifier.read(latents)
        return reading, self.signs(reading.features)
