"""Calibration of probabilities: Platt scaling, Brier score, expected calibration error."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import Interval, wilson

#: Largest gradient of the mean cross-entropy at which Platt's fit counts as converged.
GRADIENT = 1e-6
#: Probabilities are clipped to this distance from 0 and 1, which have no logit.
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Logit -> probability ``sigmoid(slope * logit + intercept)``; slope 1 and intercept 0 by default."""

    slope: float = 1.0
    intercept: float = 0.0

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities in [0, 1], the shape of ``logits``."""
        return expit(self.slope * np.asarray(logits, dtype=np.float64) + self.intercept)


def fit_platt(logits: np.ndarray, labels: np.ndarray, prevalence: float | None = None) -> Calibration:
    """Slope and intercept of Platt 1999 by maximum likelihood on his smoothed targets.

    The targets (N+ + 1) / (N+ + 2) and 1 / (N- + 2) keep the fit finite where classes are separable. Newton's
    method with the exact gradient and Hessian (Lin, Lin and Weng 2007) on standardised scores: the fit does
    not depend on their scale and offset.

    Args:
        logits: (N,) finite. If all are equal, the slope is 0.
        labels: (N,) 0 or 1, both present.
        prevalence: at which labels were drawn, 0 to 1: they are weighted so that as many are 1. None takes
            their own rate, which varies with the draw: of 60 at 0.5 by a logit of 0.26 (standard deviation).

    Raises:
        InputError: other values, or a fit that did not converge.
    """
    logits, labels = _checked(logits, labels)
    positives, negatives = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weights = np.ones(len(labels))
    if prevalence is not None:
        rate = positives / len(labels)
        weights = np.where(labels == 1, prevalence / rate, (1 - prevalence) / (1 - rate))
    centre, scale = float(logits.mean()), float(logits.std())
    if np.ptp(logits) == 0 or scale == 0:
        return Calibration(0.0, float(logit(np.average(targets, weights=weights))))
    design = np.stack([(logits - centre) / scale, np.ones(len(logits))])  # (2, N)

    def loss(parameters: np.ndarray) -> float:
        return _cross_entropy(parameters @ design, targets, weights)

    def gradient(parameters: np.ndarray) -> np.ndarray:
        return np.asarray(design @ (weights * (expit(parameters @ design) - targets))) / len(targets)

    def hessian(parameters: np.ndarray) -> np.ndarray:
        chance = expit(parameters @ design)
        return np.asarray(design * (weights * chance * (1 - chance)) @ design.T) / len(targets)

    options = {"gtol": GRADIENT / 100}
    fit = minimize(loss, np.zeros(2), method="trust-exact", jac=gradient, hess=hessian, options=options)
    steepest = float(np.abs(gradient(fit.x)).max())
    if not steepest < GRADIENT:
        raise InputError(f"Platt's fit did not converge: a gradient of {steepest:.1e}, {fit.message}")
    slope = float(fit.x[0] / scale)
    return Calibration(slope, float(fit.x[1]) - slope * centre)


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared difference of probability and label (Brier 1950): 0 best, 0.25 for always 0.5."""
    probabilities, labels = _checked(probabilities, labels)
    return float(np.square(probabilities - labels).mean())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Mean over patients of |mean probability - observed rate| of their equally wide bin (Guo et al. 2017).

    Args:
        probabilities: (N,) in [0, 1].
        labels: (N,) 0 or 1, both present.
        bins: number of bins over [0, 1].
    """
    probabilities, labels = _checked(probabilities, labels)
    gaps = np.abs(np.bincount(_bins(probabilities, bins), probabilities - labels, minlength=bins))
    return float(gaps.sum() / len(labels))


@dataclass(frozen=True)
class CalibrationBin:
    """The patients whose probabilities lie in one bin: their number, mean probability and observed rate."""

    count: int
    probability: float
    rate: Interval


def calibration_bins(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, level: float = 0.95
) -> list[CalibrationBin]:
    """The points of a reliability diagram: equally wide bins, empty ones left out, Wilson's interval.

    Args:
        probabilities: (N,) in [0, 1].
        labels: (N,) 0 or 1, both present.
        bins: number of bins over [0, 1].
    """
    probabilities, labels = _checked(probabilities, labels)
    index = _bins(probabilities, bins)
    return [
        CalibrationBin(
            int(inside.sum()),
            float(probabilities[inside].mean()),
            wilson(int(labels[inside].sum()), int(inside.sum()), level),
        )
        for inside in (index == number for number in range(bins))
        if inside.any()
    ]


def _bins(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """Index of each probability's bin; 1 belongs to the last."""
    if probabilities.min() < 0 or probabilities.max() > 1 or bins < 1:
        raise InputError(
            f"Expected probabilities in [0, 1] and at least 1 bin, got {probabilities.min():g} to "
            f"{probabilities.max():g} and {bins}."
        )
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def _cross_entropy(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    return float(np.mean(weights * (np.logaddexp(0, logits) - targets * logits)))


def _checked(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, labels = np.asarray(values, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != labels.shape or not np.isfinite(values).all():
        raise InputError(f"Expected finite (N,) values and labels, got {values.shape} and {labels.shape}.")
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise InputError(f"Labels must be 0 and 1, both present, got {np.unique(labels).tolist()[:5]}.")
    return values, labels.astype(np.float64)
