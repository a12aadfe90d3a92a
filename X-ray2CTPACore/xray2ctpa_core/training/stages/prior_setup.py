"""Set-up of a prior's network, scaling and scheduler from a configuration and the training pairs."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from xray2ctpa_core.data.slice_features import EmbeddingPairs
from xray2ctpa_core.diffusion.analytic_dpm import AnalyticDPMScheduler, mean_square_of_noise
from xray2ctpa_core.diffusion.embedding_sampling import prior_scheduler
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, standardised
from xray2ctpa_core.diffusion.prior_readout import PriorReadout
from xray2ctpa_core.diffusion.schedulers import make_scheduler
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.denoisers.prior import PRIOR_PRESETS, EmbeddingPrior
from xray2ctpa_core.training.settings.cmkd import PriorConfig

#: Draws of noise for each training pair when Analytic-DPM's mean square is measured.
_NOISES = 4


def make_readout(config: PriorConfig, head: nn.Module, pairs: EmbeddingPairs) -> PriorReadout:
    """An untrained prior with the teacher's head and the scalings of the training ``pairs``."""
    whole = _whole(pairs)
    targets = whole["target"]
    if config.embedding_scaling == "standardised":
        scaling, given = standardised(targets), standardised(whole["embedding"])
    else:
        scaling, given = released_scaling(targets), None
    arguments: dict[str, Any] = {**PRIOR_PRESETS[config.prior_preset], "dim": targets.shape[1]}
    arguments["num_timesteps"] = max(config.noise_levels, arguments.get("num_timesteps", 1000))
    trained = prior_scheduler(config.noise_levels)
    return PriorReadout(
        EmbeddingPrior(**arguments),
        head,
        make_scheduler("ddim", trained) if config.sampler == "ddim" else trained,
        scaling,
        given,
        config.sample_steps or None,
        config.draws,
        config.choice,
        config.guidance_scale,
    )


def released_scaling(targets: torch.Tensor) -> LatentScaling:
    """The release's scaling: the extremes of all embeddings (N, E) become -sqrt(E) and sqrt(E)."""
    low, high, dims = float(targets.min()), float(targets.max()), targets.shape[1]
    if high <= low:
        raise ConfigError("Expected embeddings that vary, got equal ones.")
    return LatentScaling(((high + low) / 2,) * dims, ((high - low) / 2 / dims**0.5,) * dims)


def measure_variance(readout: PriorReadout, pairs: EmbeddingPairs) -> None:
    """Gives the trained prior an AnalyticDPMScheduler, with the mean squares measured on the training
    ``pairs``."""
    whole = _whole(pairs)
    device = next(readout.prior.parameters()).device
    clean = readout.scaling.apply(whole["target"].to(device))
    schedule = readout.scheduler
    found = mean_square_of_noise(
        readout.prior,
        clean,
        readout.conditioning(whole["embedding"].to(device)),
        schedule.alphas_cumprod,
        torch.Generator(device=device).manual_seed(0),
        _NOISES,
    )
    readout.scheduler = AnalyticDPMScheduler(
        num_train_timesteps=schedule.config["num_train_timesteps"],
        mean_square=found,
        largest_data_variance=float(clean.double().var(0).max()),
    )


def _whole(pairs: EmbeddingPairs) -> dict[str, torch.Tensor]:
    return default_collate([pairs[(place, 0)] for place in range(len(pairs))])
