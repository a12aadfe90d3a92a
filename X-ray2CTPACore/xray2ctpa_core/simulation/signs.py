"""Radiographic signs of pulmonary embolism: published rates, random draws, and the best possible AUROC."""

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

#: Share of virtual patients with embolism.
PREVALENCE = 0.5


@dataclass(frozen=True)
class Sign:
    """One sign with P(sign | PE) and P(no sign | no PE)."""

    name: str
    sensitivity: float
    specificity: float
    source: str

    def rate(self, pe: bool) -> float:
        """Probability that a patient with or without PE shows the sign."""
        return self.sensitivity if pe else 1.0 - self.specificity


_PIOPED = "PIOPED likelihood ratios"
_WORSLEY = "Worsley et al., Radiology 1993"

SIGNS = (
    Sign("opacity", 0.68, 0.51, _PIOPED),
    Sign("effusion", 0.49, 0.68, _PIOPED),
    Sign("hampton", 0.35, 0.78, _PIOPED),
    Sign("westermark", 0.22, 0.88, _PIOPED),
    Sign("fleischner", 0.20, 0.80, _WORSLEY),
    Sign("hilum", 0.07, 0.94, _WORSLEY),
    Sign("oedema", 0.04, 0.87, _PIOPED),
    Sign("cardiomegaly", 0.48, 0.63, "ICOPER, n=2322 (right ventricular hypokinesis)"),
)


_NAMES = tuple(sign.name for sign in SIGNS)


def draw_signs(pe: bool, generator: np.random.Generator) -> dict[str, bool]:
    """Draws every sign at its published rate given ``pe``, independently of the others."""
    return {sign.name: bool(generator.random() < sign.rate(pe)) for sign in SIGNS}


def sign_probability(signs: dict[str, bool], prevalence: float = 0.5) -> float:
    """Naive-Bayes posterior of PE given ``signs``, all or some of SIGNS: exact here, since signs are drawn
    independently."""
    log_odds = math.log(prevalence / (1.0 - prevalence))
    for sign in [known for known in SIGNS if known.name in signs]:
        with_pe, without = sign.rate(True), sign.rate(False)
        shown = signs[sign.name]
        log_odds += math.log(with_pe / without) if shown else math.log((1 - with_pe) / (1 - without))
    return 1.0 / (1.0 + math.exp(-log_odds))


def ceiling_auroc(names: Collection[str] = _NAMES) -> float:
    """AUROC of the best possible reader of the signs of these names, computed over all their combinations."""
    read = [sign for sign in SIGNS if sign.name in names]
    scores: list[float] = []
    with_pe: list[float] = []
    without: list[float] = []
    for shown in itertools.product((False, True), repeat=len(read)):
        signs = {sign.name: s for sign, s in zip(read, shown, strict=True)}
        scores.append(sign_probability(signs))
        for pe, weights in ((True, with_pe), (False, without)):
            rates = (sign.rate(pe) if s else 1 - sign.rate(pe) for sign, s in zip(read, shown, strict=True))
            weights.append(math.prod(rates))
    score, p, q = (np.array(values) for values in (scores, with_pe, without))
    greater = score[:, None] > score[None]
    equal = np.isclose(score[:, None], score[None])
    return float((p[:, None] * q[None] * (np.where(equal, 0.5, greater))).sum())
