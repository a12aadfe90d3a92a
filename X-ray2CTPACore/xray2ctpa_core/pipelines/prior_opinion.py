"""The second opinion of CMKD's prior, saved in a folder: radiograph encoder, prior, last layer of the CTPA
classifier."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import nn

from xray2ctpa_core import config
from xray2ctpa_core.diffusion.analytic_dpm import AnalyticDPMScheduler
from xray2ctpa_core.diffusion.latent_scaling import load_scaling, save_scaling
from xray2ctpa_core.diffusion.prior_readout import PriorReadout
from xray2ctpa_core.diffusion.schedulers import make_scheduler
from xray2ctpa_core.errors import BundleError
from xray2ctpa_core.models.classifiers.embedding_classifier import EmbeddingClassifier
from xray2ctpa_core.models.classifiers.matching_layer import MatchingLayer
from xray2ctpa_core.models.denoisers.prior import EmbeddingPrior
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.pipelines.second_opinion import OpinionReader, OpinionSettings

SETTINGS_FILE = "second_opinion.json"
_ENCODER, _PRIOR, _HEAD, _GIVEN = "encoder", "prior", "head", "conditioning"
RESTS_ON_PRIOR = (
    "radiograph alone: CTPA embeddings drawn from the radiograph's by a diffusion prior, read by the last "
    "layer of a CTPA classifier; no volume"
)
#: Layer of a radiograph encoder for Grad-CAM, by the encoder's name. Transformers have no such layer.
GRADCAM_LAYERS = {
    "small": "trunk.features.denseblock3",
    "radimagenet-resnet50": "trunk.layer4",
    "own": "trunk.network.down.1",
}


class PriorReader(nn.Module):
    """Radiograph -> embedding -> prior -> logit (B, 1).

    Args:
        student: only its ``embed`` is used.
        readout: of the student's embeddings.
    """

    def __init__(self, student: EmbeddingClassifier, readout: PriorReadout) -> None:
        super().__init__()
        self.student, self.readout = student, readout

    @property
    def gradcam_layer(self) -> str | None:
        """Module of `first_estimate` for Grad-CAM; None if the encoder has none."""
        layer = GRADCAM_LAYERS.get(self.student.encoder.config["name"])
        return None if layer is None else f"student.encoder.{layer}"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B, 1) logits of PE."""
        return self.readout(self.student.embed(image))

    def explained(self, image: torch.Tensor) -> torch.Tensor:
        """The logit (B, 1) that Grad-CAM explains: that of the prior's first step, an estimate from noise
        alone."""
        return self.readout.first_estimate(self.student.embed(image))


def save_prior_opinion(
    folder: Path, student: EmbeddingClassifier, readout: PriorReadout, settings: OpinionSettings
) -> None:
    """Writes a prior with its radiograph encoder, last layer, scheduler and scalings, for
    `load_prior_opinion`."""
    student.save_pretrained(folder / _ENCODER)
    readout.prior.save_pretrained(folder / _PRIOR)  # type: ignore[operator]
    readout.scheduler.save_pretrained(folder / _PRIOR)
    save_scaling(readout.scaling, folder / _PRIOR)
    if readout.given is not None:
        save_scaling(readout.given, folder / _PRIOR / _GIVEN)
    MatchingLayer.of(_linear(readout.head)).save_pretrained(folder / _HEAD)
    config.save(settings, folder / SETTINGS_FILE)


def load_prior_opinion(folder: Path) -> OpinionReader:
    """Loads the output of `save_prior_opinion`, in fp32 on the CPU.

    Raises:
        BundleError: a part is missing, damaged, or another network.
        ConfigError: settings with unknown or wrong values.
    """
    folder = Path(folder)
    settings = config.load(OpinionSettings, folder / SETTINGS_FILE)
    wanted: dict[str, Any] = {_ENCODER: EmbeddingClassifier, _PRIOR: EmbeddingPrior, _HEAD: MatchingLayer}
    parts = {name: load_part(folder / name) for name in wanted}
    for name, part in parts.items():
        if not isinstance(part, wanted[name]):
            raise BundleError(
                f"Expected a {wanted[name].__name__} in {folder / name}, got a {type(part).__name__}."
            )
    given = folder / _PRIOR / _GIVEN
    readout = PriorReadout(
        parts[_PRIOR],
        parts[_HEAD],
        _sampler(folder / _PRIOR, settings.sampler),
        load_scaling(folder / _PRIOR),
        load_scaling(given) if given.is_dir() else None,
        settings.steps or None,
        settings.draws,
        settings.choice,
        settings.guidance_scale,
    )
    return OpinionReader(PriorReader(parts[_ENCODER], readout).eval(), settings, RESTS_ON_PRIOR)


def _sampler(folder: Path, name: str) -> Any:
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
