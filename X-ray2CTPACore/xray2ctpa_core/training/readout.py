"""Read-outs of PE from trained networks: presence probabilities and weights, fitted in closed form."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logit
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression, RidgeCV

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.calibration import Calibration, fit_platt
from xray2ctpa_core.models.classifiers.evidence import strongest_places
from xray2ctpa_core.models.classifiers.pe_classifier import STRONGEST_PLACES, PEClassifier
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder

#: File of the `Evidence` that the step evidence-classifier saves beside the classifier.
EVIDENCE_FILE = "evidence.npz"
#: Ridge penalties that leave-one-out chooses from: from almost no penalty to weights of almost 0.
_PENALTIES = np.logspace(-1, 5, 13)
#: Added to standard deviations, so that nearly constant dimensions of an embedding are not amplified.
_LEAST_EMBEDDING = 1e-3
#: Likelihood-ratio test at 1 %: least value of twice the gained log-likelihood (chi-square, one degree of
#: freedom). A map below it is silenced: an offset of _SILENT makes its presence probability 0.
_LEAST_GAIN, _SILENT = float(chi2.isf(0.01, 1)), -20.0


class Evidence(NamedTuple):
    """The evidence in N volumes, and the true findings of their patients.

    Attributes:
        strongest: (N, M, len(STRONGEST_PLACES)) logits of each map's strongest places, the clots' map first.
        places: (N, M) mean probability of each map's STRONGEST_PLACES[0] strongest places.
        present: (N, M) bool, whether the patient has PE, then whether each sign.
        log_odds: (N,) of PE given the patient's signs.
    """

    strongest: np.ndarray
    places: np.ndarray
    present: np.ndarray
    log_odds: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """(N,) of 0 and 1: PE."""
        return self.present[:, 0].astype(int)

    def save(self, path: Path) -> None:
        """Writes an npz file."""
        np.savez(path, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> "Evidence":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in cls._fields})


@torch.no_grad()
def read_evidence(
    classifier: PEClassifier, volumes: Iterable[tuple[torch.Tensor, float, Sequence[bool]]]
) -> Evidence:
    """The evidence in ``volumes``: standardised latents (1, C, D, H, W), each with P(PE | signs) and with the
    presence of PE and of each sign."""
    classifier.eval()
    strongest, places, present, log_odds = [], [], [], []
    for latents, probability, has in volumes:
        reading = classifier.read(latents.to(classifier.device, classifier.dtype))
        if reading.maps is None or reading.strongest is None:
            raise ValueError("Expected a classifier with evidence maps.")
        strongest.append(reading.strongest[0].float().cpu().numpy())
        surest = strongest_places(reading.maps.float().sigmoid(), STRONGEST_PLACES[:1])
        places.append(surest[0, :, 0].cpu().numpy())
        present.append(np.asarray(has, dtype=bool))
        log_odds.append(float(logit(probability)))
    return Evidence(np.stack(strongest), np.stack(places), np.stack(present), np.array(log_odds))


@torch.no_grad()
def counted(classifier: PEClassifier, evidence: Evidence) -> np.ndarray:
    """(N, M) in 0..1, the input of the classifier's read-out: presence probability times mean place
    probability."""
    strongest = torch.from_numpy(evidence.strongest).to(classifier.device, classifier.dtype)
    return classifier.shown(strongest).sigmoid().squeeze(2).float().cpu().numpy() * evidence.places


@torch.no_grad()
def logits_of(classifier: PEClassifier, evidence: Evidence) -> np.ndarray:
    """(N,) logits of PE from the classifier's read-out."""
    rows = torch.from_numpy(counted(classifier, evidence))
    return classifier.readout(rows.to(classifier.device, classifier.dtype)).squeeze(1).float().cpu().numpy()


@torch.no_grad()
def fit_shown(classifier: PEClassifier, evidence: Evidence) -> list[float]:
    """Fits the presence probability of each finding: Platt scaling of the mean logit of its map's strongest
    places, with the number of places that fits best.

    A map that predicts presence no better than chance is silenced, as happens to faint signs.

    Args:
        classifier: trained; its presence read-out ``shown`` is set.
        evidence: of the true volumes of patients that it was not trained on.

    Returns:
        For each map twice the log-likelihood gained over the base rate; 0 for silenced maps.
    """
    strongest, present = evidence.strongest, evidence.present
    weight, bias = classifier.shown.parameters()
    weight.zero_()
    gains = []
    for kind in range(strongest.shape[1]):
        fits = [_who_shows(strongest[:, kind, size], present[:, kind]) for size in range(strongest.shape[2])]
        size = int(np.argmax([gain for gain, _ in fits]))
        gain, fit = fits[size]
        if gain < _LEAST_GAIN:
            gain, fit = 0.0, Calibration(0.0, _SILENT)
        weight[kind, 0, size] = fit.slope
        bias[kind] = fit.intercept
        gains.append(gain)
    return gains


def _who_shows(strongest: np.ndarray, present: np.ndarray) -> tuple[float, Calibration]:
    """Twice the log-likelihood gained over the base rate, and the Platt scaling; a gain of 0 where the slope
    is not positive or all patients have the same label."""
    rate = present.mean()
    if rate in (0, 1):
        return 0.0, Calibration()
    fit = fit_platt(strongest, present)
    if fit.slope <= 0:
        return 0.0, Calibration()
    chances = np.where(present, fit.probability(strongest), 1 - fit.probability(strongest))
    gain = 2 * (np.log(chances).sum() - np.log(np.where(present, rate, 1 - rate)).sum())
    return float(gain), fit


@torch.no_grad()
def fit_readout(classifier: PEClassifier, groups: Sequence[Evidence]) -> list[float]:
    """Fits the weights of the evidence in the log-odds of PE.

    Ridge regression on the log-odds given the signs, which are known for virtual patients, weighs the signs
    (the penalty is chosen by leave-one-out): they are less noisy than the labels, of which only two in three
    agree with the signs. Logistic regression on the first group's labels then weighs the clots. Evidence is
    centred in each group, because it is fainter in generated volumes than in true ones.

    Args:
        classifier: trained, with presence probabilities (`fit_shown`); its read-out is set.
        groups: of patients that it was not trained on, so that it has not memorised them: evidence of their
            true volumes first, then of generated ones.

    Returns:
        For each group the correlation of the fitted and the true log-odds.

    Raises:
        InputError: the first group's patients all have PE, or none has.
    """
    first = groups[0]
    if len(set(first.labels.tolist())) < 2:
        raise InputError(
            "Expected patients with and without PE to fit the classifier's read-out, got one kind.",
            "Take more patients: readout_patients of the step evidence-classifier.",
        )
    evidence = [counted(classifier, group) for group in groups]
    centred = np.concatenate([of[:, 1:] - of[:, 1:].mean(0) for of in evidence])
    odds = np.concatenate([group.log_odds - group.log_odds.mean() for group in groups])
    weights = RidgeCV(_PENALTIES, fit_intercept=False).fit(centred, odds).coef_
    fitted = [of[:, 1:] @ weights for of in evidence]
    clots = evidence[0][:, :1]
    weigher = LogisticRegression(C=1.0).fit(np.concatenate([fitted[0][:, None], clots], 1), first.labels)
    from_clots = float(weigher.coef_[0, 1])
    row = torch.as_tensor(np.concatenate([[from_clots], weights]))
    classifier.readout.weight.copy_(row[None])
    classifier.readout.bias.fill_(float(first.log_odds.mean() - fitted[0].mean() - from_clots * clots.mean()))
    return [float(np.corrcoef(of, group.log_odds)[0, 1]) for of, group in zip(fitted, groups, strict=True)]


@torch.no_grad()
def fit_radiograph_head(encoder: XrayEncoder, radiographs: Iterable[tuple[torch.Tensor, float]]) -> None:
    """Sets the encoder's PE head by ridge regression of the log-odds given the signs on its embedding.

    A head trained by gradient descent together with the map stays at chance.

    Args:
        encoder: trained.
        radiographs: frames (1, 1, P, P) in [0, 1], each with P(PE | signs). The encoder was not trained on
            them, so that it has not memorised their signs.
    """
    encoder.eval()
    embeddings, odds = [], []
    for image, probability in radiographs:
        embedding = encoder(image.to(encoder.device, encoder.dtype)).embedding
        embeddings.append(embedding[0].float().cpu().numpy())
        odds.append(logit(probability))
    seen = np.stack(embeddings)
    deviation = seen.std(0) + _LEAST_EMBEDDING
    ridge = RidgeCV(_PENALTIES).fit((seen - seen.mean(0)) / deviation, odds)
    weights = ridge.coef_ / deviation
    encoder.pe_head.weight.copy_(torch.as_tensor(weights)[None])
    encoder.pe_head.bias.fill_(float(ridge.intercept_ - weights @ seen.mean(0)))
