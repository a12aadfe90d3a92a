"""The result of the step paper-denoiser, and its loading."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import DDPMScheduler
from torch import nn

from xray2ctpa_core import config as configuration
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, load_scaling
from xray2ctpa_core.diffusion.sampling import clipped_epsilon
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.denoisers.conditioned import ConditionedDenoiser, LabelEmbedding, guided
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.pipelines.encoders import load_published_encoder
from xray2ctpa_core.pipelines.loading import load_denoiser

CONDITIONS_FILE = "conditions.json"


@dataclass(frozen=True)
class Conditions:
    """The conditions of a denoiser.

    Attributes:
        conditioning: "unconditional", or "radiograph" (computed or real).
        encoder, encoder_weights: the frozen radiograph encoder (pipelines.encoders); the papers' is
            BiomedCLIP.
        labels: whether it is also conditioned on the label.
    """

    conditioning: str = "unconditional"
    encoder: str = "biomedclip"
    encoder_weights: str = ""
    labels: bool = False

    def __post_init__(self) -> None:
        if self.conditioning not in ("unconditional", "radiograph"):
            raise ConfigError(
                f"Expected the conditioning unconditional or radiograph, got {self.conditioning!r}."
            )


class PaperRun(NamedTuple):
    """A trained denoiser with everything that sampling needs.

    Attributes:
        model, encoder, scheduler, scaling: as trained; an unconditional denoiser has no encoder.
        conditions: those of its training.
    """

    model: ConditionedDenoiser
    encoder: nn.Module | None
    scheduler: DDPMScheduler
    scaling: LatentScaling
    conditions: Conditions

    def sampler(
        self,
        radiographs: torch.Tensor | None,
        labels: torch.Tensor | None,
        scale: float,
        label_scale: float,
        largest: float,
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The denoiser as a function for ``sample_latents``.

        Args:
            radiographs: (B, 1, P, P); used by a conditional denoiser.
            labels: (B,) of 0, 1, NO_LABEL; used by a denoiser with labels.
            scale, label_scale: of classifier-free guidance; 1 for none.
            largest: bound of the scaled latents (diffusion.sampling.clipped_epsilon).
        """
        embedding = None if self.encoder is None or radiographs is None else self.encoder(radiographs).float()
        label = labels if self.conditions.labels else None

        def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            epsilon = guided(self.model, embedding, label, scale, label_scale, sample, timestep)
            return clipped_epsilon(self.scheduler, sample, epsilon, timestep, largest)

        return model


def start_denoiser(folder: Path) -> tuple[PaperDenoiser, LabelEmbedding | None]:
    """The denoiser of a run, or of `xray2ctpa convert upstream-denoiser`, and its label embedding, if any.

    Raises:
        BundleError: the folder holds neither of them.
    """
    run = folder / "denoiser"
    denoiser = load_denoiser(run if run.is_dir() else folder)
    labels = None
    if (folder / "label_embedding").is_dir():
        labels = LabelEmbedding.from_pretrained(folder / "label_embedding", use_safetensors=True)
    return denoiser, labels


def load_paper_run(folder: Path, device: Any) -> PaperRun:
    """A finished run on ``device``, in evaluation mode.

    Raises:
        InputError: the run is not finished.
        BundleError: a network of it is damaged or missing.
    """
    if not (folder / CONDITIONS_FILE).is_file():
        raise InputError(
            f"Expected a finished run of the step paper-denoiser in {folder}, got none.",
            f"{CONDITIONS_FILE} is missing.",
        )
    conditions = configuration.load(Conditions, folder / CONDITIONS_FILE)
    denoiser, labels = start_denoiser(folder)
    encoder = None
    if conditions.conditioning == "radiograph":
        encoder = load_published_encoder(conditions.encoder, conditions.encoder_weights).to(device).eval()
    return PaperRun(
        ConditionedDenoiser(denoiser, labels).to(device).eval(),
        encoder,
        DDPMScheduler.from_pretrained(folder / "scheduler"),
        load_scaling(folder / "denoiser"),
        conditions,
    )
