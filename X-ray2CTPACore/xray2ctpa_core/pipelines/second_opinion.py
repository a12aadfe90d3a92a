"""A second opinion on PE from the radiograph alone, beside the volume's score, with its own calibration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import nn

from xray2ctpa_core import config
from xray2ctpa_core.diffusion.analytic_dpm import AnalyticDPMScheduler
from xray2ctpa_core.diffusion.latent_scaling import load_scaling, save_scaling
from xray2ctpa_core.diffusion.prior_readout import PriorReadout
from xray2ctpa_core.diffusion.schedulers import make_scheduler
from xray2ctpa_core.errors import BundleError
from xray2ctpa_core.metrics.calibration import Calibration
from xray2ctpa_core.models.classifiers.embedding_classifier import EmbeddingClassifier
from xray2ctpa_core.models.classifiers.matching_layer import MatchingLayer
from xray2ctpa_core.models.denoisers.prior import EmbeddingPrior
from xray2ctpa_core.pipelines.loading import load_part

#: Folder of a bundle that holds what `save_prior_opinion` writes, and its files.
SECOND_OPINION_FOLDER = "second_opinion"
SETTINGS_FILE = "second_opinion.json"
_ENCODER, _PRIOR, _HEAD, _GIVEN = "encoder", "prior", "head", "conditioning"
#: What each kind rests on, for readers of a result.
RESTS_ON_HEAD = "radiograph alone: a linear layer on the radiograph encoder's embedding; no volume"
RESTS_ON_PRIOR = (
    "radiograph alone: CTPA embeddings drawn from the radiograph's by a diffusion prior, read by the last "
    "layer of a CTPA classifier; no volume"
)


@dataclass(frozen=True)
class SecondOpinion:
    """PE from the radiograph alone.

    Attributes:
        probability: 0 to 1.
        threshold: probability from which it counts as positive.
        calibrated: whether probability and threshold were fitted on held-out patients.
        rests_on: a sentence: what the score was computed from.
    """

    probability: float
    threshold: float
    calibrated: bool
    rests_on: str

    @property
    def positive(self) -> bool:
        """Whether the probability reaches the threshold."""
        return self.probability >= self.threshold

    def content(self) -> dict[str, Any]:
        """The value of result.json's key pe.second_opinion."""
        return {
            "probability": self.probability,
            "threshold": self.threshold,
            "positive": self.positive,
            "calibrated": self.calibrated,
            "rests_on": self.rests_on,
        }


@dataclass(frozen=True)
class OpinionSettings:
    """How an opinion is read out; second_opinion.json of a prior's.

    Attributes:
        threshold, platt_a, platt_b, calibrated: as bundle.PEOperatingPoint has them.
        steps: 0 for every noise level of the prior.
        draws, choice, guidance_scale: of PriorReadout.
        sampler: "ddpm", "ddim" or "analytic" (then the scheduler's file holds what was measured).
        trained_on: a sentence.
    """

    threshold: float = 0.5
    platt_a: float = 1.0
    platt_b: float = 0.0
    calibrated: bool = False
    steps: int = 0
    draws: int = 4
    choice: str = "mean"
    guidance_scale: float = 1.0
    sampler: str = "ddpm"
    trained_on: str = ""


class OpinionReader:
    """A classifier of radiographs with its calibration.

    Args:
        network: (B, 1, P, P), what its encoder reads -> (B, 1) or (B,) logits.
        settings: its calibration.
        rests_on: a sentence.
    """

    def __init__(self, network: nn.Module, settings: OpinionSettings, rests_on: str) -> None:
        self.network, self.settings, self.rests_on = network, settings, rests_on

    @torch.no_grad()
    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B,) logits, not calibrated."""
        place = next(self.network.parameters())
        return self.network(image.to(place.device, place.dtype)).float().reshape(len(image))

    def score(self, image: torch.Tensor) -> SecondOpinion:
        """(1, 1, P, P), the frame that the bundle's framing makes -> the opinion on it."""
        settings = self.settings
        scale = Calibration(settings.platt_a, settings.platt_b)
        probability = float(scale.probability(self.logits(image).cpu().numpy().astype(np.float64))[0])
        return SecondOpinion(probability, settings.threshold, settings.calibrated, self.rests_on)


class HeadReader(nn.Module):
    """The linear layer that the default's radiograph encoder carries: (B, 1, P, P) -> (B,) logits.

    Args:
        encoder: whose forward pass gives features with ``pe_logit``.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.encoder(image, 1).pe_logit


class PriorReader(nn.Module):
    """Radiograph -> embedding -> prior -> logit (B, 1).

    Args:
        student: its ``embed`` is taken.
        readout: of the student's embeddings.
    """

    def __init__(self, student: EmbeddingClassifier, readout: PriorReadout) -> None:
        super().__init__()
        self.student, self.readout = student, readout

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.readout(self.student.embed(image))


def head_opinion(encoder: nn.Module, settings: OpinionSettings | None = None) -> OpinionReader:
    """The opinion of the linear layer on a bundle's radiograph encoder; uncalibrated unless settings say
    otherwise."""
    return OpinionReader(HeadReader(encoder).eval(), settings or OpinionSettings(), RESTS_ON_HEAD)


def save_prior_opinion(
    folder: Path, student: EmbeddingClassifier, readout: PriorReadout, settings: OpinionSettings
) -> None:
    """Writes a prior with its radiograph encoder, last layer, scheduler and scalings, for `load_opinion`."""
    student.save_pretrained(folder / _ENCODER)
    readout.prior.save_pretrained(folder / _PRIOR)  # type: ignore[operator]
    readout.scheduler.save_pretrained(folder / _PRIOR)
    save_scaling(readout.scaling, folder / _PRIOR)
    if readout.given is not None:
        save_scaling(readout.given, folder / _PRIOR / _GIVEN)
    MatchingLayer.of(_linear(readout.head)).save_pretrained(folder / _HEAD)
    config.save(settings, folder / SETTINGS_FILE)


def load_opinion(folder: Path) -> OpinionReader:
    """What `save_prior_opinion` wrote, in fp32 on the CPU.

    Raises:
        BundleError: a part is missing, damaged or another network.
        ConfigError: settings with unknown or wrong values.
    """
    folder = Path(folder)
    settings = config.load(OpinionSettings, folder / SETTINGS_FILE)
    parts = {name: load_part(folder / name) for name in (_ENCODER, _PRIOR, _HEAD)}
    for (name, part), wanted in zip(
        parts.items(), (EmbeddingClassifier, EmbeddingPrior, MatchingLayer), strict=True
    ):
        if not isinstance(part, wanted):
            raise BundleError(f"Expected a {wanted.__name__} in {folder / name}, got {type(part).__name__}.")
    given = folder / _PRIOR / _GIVEN
    readout = PriorReadout(
        parts[_PRIOR],
        parts[_HEAD],
        load_sampler(folder / _PRIOR, settings.sampler),
        load_scaling(folder / _PRIOR),
        load_scaling(given) if given.is_dir() else None,
        settings.steps or None,
        settings.draws,
        settings.choice,
        settings.guidance_scale,
    )
    return OpinionReader(PriorReader(parts[_ENCODER], readout).eval(), settings, RESTS_ON_PRIOR)


def load_sampler(folder: Path, name: str) -> Any:
    """The sampler ``name`` for the noise schedule in ``folder``/scheduler_config.json."""
    if name == "analytic":
        return AnalyticDPMScheduler.from_pretrained(folder)
    trained = DDPMScheduler.from_pretrained(folder)
    return trained if name == "ddpm" else make_scheduler(name, trained)


def _linear(head: nn.Module) -> nn.Linear:
    found = head.linear if isinstance(head, MatchingLayer) else head
    if not isinstance(found, nn.Linear):
        raise BundleError(f"Expected a linear layer for the head, got {type(found).__name__}.")
    return found
