"""What networks that have learned to see make of it for PE, fitted in closed form after their training."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logit
from sklearn.linear_model import LogisticRegression, RidgeCV

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.networks.pe_classifier import STRONGEST_PLACES, PEClassifier
from xray2ctpa_core.networks.xray_encoder import XrayEncoder

#: What Training/train_pe_classifier.py saves beside the classifier.
EVIDENCE_FILE = "evidence.npz"
#: Ridge penalties that leave-one-out chooses from: from almost none to almost no weight.
_PENALTIES = np.logspace(-1, 5, 13)
#: What hardly varies is not blown up: evidence, which is a probability, and channels of an embedding. With
#: 0.001 for evidence, too, cardiomegaly got a weight of -17, for nothing.
_LEAST_EVIDENCE, _LEAST_EMBEDDING = 0.1, 1e-3


class Evidence(NamedTuple):
    """The evidence in N volumes, with what is known of their patients.

    Attributes:
        evidence: (N, M, len(STRONGEST_PLACES)) in 0..1, of which the first map is the clots'.
        log_odds: (N,) of PE given the patient's signs.
        labels: (N,) of 0 and 1.
    """

    evidence: np.ndarray
    log_odds: np.ndarray
    labels: np.ndarray

    def save(self, path: Path) -> None:
        """Writes an npz file."""
        np.savez(path, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> "Evidence":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in cls._fields})


@torch.no_grad()
def read_evidence(classifier: PEClassifier, volumes: Iterable[tuple[torch.Tensor, float, bool]]) -> Evidence:
    """The evidence in standardised latents (1, C, D, H, W), each with P(PE | signs) and label."""
    classifier.eval()
    kept, log_odds, labels = [], [], []
    for latents, probability, label in volumes:
        evidence = classifier.read(latents.to(classifier.device, classifier.dtype)).evidence
        if evidence is None:
            raise ValueError("Expected a classifier with evidence maps.")
        kept.append(evidence[0].float().cpu().numpy())
        log_odds.append(float(logit(probability)))
        labels.append(int(label))
    return Evidence(np.stack(kept), np.array(log_odds), np.array(labels))


@torch.no_grad()
def logits_of(classifier: PEClassifier, evidence: Evidence) -> np.ndarray:
    """(N,) logits of PE that the classifier's readout gives."""
    rows = torch.from_numpy(evidence.evidence).flatten(1)
    return classifier.readout(rows.to(classifier.device, classifier.dtype)).squeeze(1).float().cpu().numpy()


@torch.no_grad()
def fit_readout(classifier: PEClassifier, groups: Sequence[Evidence]) -> list[float]:
    """Reads the log-odds of PE off the evidence.

    The log-odds given the signs are known of virtual patients, while labels agree with the signs in two of
    three only: ridge regression on the former (its penalty chosen by leave-one-out) weighs the signs'
    evidence, logistic regression on the first group's labels the clots' beside it. Evidence is centred group
    by group: generated volumes show everything more faintly than the patients' own.

    Args:
        classifier: trained; its readout is set.
        groups: of patients that it was not trained on, whose evidence it would know by heart: of their own
            volumes first, then of generated ones.

    Returns:
        Of each group the correlation of the fitted and the true log-odds.

    Raises:
        InputError: the first group's patients all have PE, or none has.
    """
    if len(set(groups[0].labels.tolist())) < 2:
        raise InputError(
            "Expected patients with and without PE to weigh the classifier's evidence on, got one kind.",
            "Take more patients: readout_patients of Training/train_pe_classifier.py.",
        )
    signs = [group.evidence[:, 1:].reshape(len(group.labels), -1) for group in groups]
    centred = np.concatenate([of - of.mean(0) for of in signs])
    odds = np.concatenate([group.log_odds - group.log_odds.mean() for group in groups])
    deviation = centred.std(0) + _LEAST_EVIDENCE
    ridge = RidgeCV(_PENALTIES, fit_intercept=False).fit(centred / deviation, odds)
    weights = ridge.coef_ / deviation
    fitted = [of @ weights for of in signs]
    first = groups[0]
    clots = first.evidence[:, 0].mean(1, keepdims=True)
    weigher = LogisticRegression(C=1.0).fit(np.concatenate([fitted[0][:, None], clots], 1), first.labels)
    from_clots = float(weigher.coef_[0, 1])
    bias = float(first.log_odds.mean() - fitted[0].mean() - from_clots * clots.mean())
    of_clots = np.full(len(STRONGEST_PLACES), from_clots / len(STRONGEST_PLACES))
    row = torch.as_tensor(np.concatenate([of_clots, weights]))
    classifier.readout.weight.copy_(row[None])
    classifier.readout.bias.fill_(bias)
    return [float(np.corrcoef(of, group.log_odds)[0, 1]) for of, group in zip(fitted, groups, strict=True)]


@torch.no_grad()
def fit_film_head(encoder: XrayEncoder, films: Iterable[tuple[torch.Tensor, float]]) -> None:
    """Sets the encoder's PE head: ridge regression of the log-odds given the signs on its embedding, which
    learning the head step by step along with the map leaves at chance.

    Args:
        encoder: trained.
        films: frames (1, 1, P, P) in [0, 1], each with P(PE | signs), that the encoder was not trained on: of
            those it knows the signs by heart.
    """
    encoder.eval()
    embeddings, odds = [], []
    for image, probability in films:
        embedding = encoder(image.to(encoder.device, encoder.dtype)).embedding
        embeddings.append(embedding[0].float().cpu().numpy())
        odds.append(logit(probability))
    seen = np.stack(embeddings)
    deviation = seen.std(0) + _LEAST_EMBEDDING
    ridge = RidgeCV(_PENALTIES).fit((seen - seen.mean(0)) / deviation, odds)
    weights = ridge.coef_ / deviation
    encoder.pe_head.weight.copy_(torch.as_tensor(weights)[None])
    encoder.pe_head.bias.fill_(float(ridge.intercept_ - weights @ seen.mean(0)))
