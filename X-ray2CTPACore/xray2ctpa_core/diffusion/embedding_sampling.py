"""Sampling of embeddings by a prior: noise schedule, guidance, several draws, choice of one of them."""

from functools import partial
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

from xray2ctpa_core.diffusion.sampling import Model, sample_latents
from xray2ctpa_core.models.denoisers.prior import EmbeddingPrior

#: Noise levels of the released prior.
RELEASED_TIMESTEPS = 64


def prior_scheduler(
    timesteps: int = RELEASED_TIMESTEPS, trained_betas: list[float] | None = None
) -> DDPMScheduler:
    """The released noise schedule (Nichol and Dhariwal, ICML 2021, cosine) with its ancestral sampler, for a
    network that predicts the clean embedding; posterior variance, no clipping. ``trained_betas``, one for
    each timestep, replace the schedule."""
    return DDPMScheduler(
        num_train_timesteps=timesteps,
        beta_schedule="squaredcos_cap_v2",
        trained_betas=trained_betas,
        variance_type="fixed_small",
        clip_sample=False,
        prediction_type="sample",
    )


def guided(prior: nn.Module, conditioning: torch.Tensor, scale: float = 1.0) -> Model:
    """The prior with the interface of a sampler's model: (sample, timestep) -> clean embedding.

    Args:
        prior: called with (sample, timestep, conditioning), and for a ``scale`` other than 1 with
            drop_conditioning and drop_sample. Null tokens of an EmbeddingPrior are computed once, here.
        conditioning: (B, E), the radiographs' embeddings.
        scale: of classifier-free guidance, null + scale (conditioned - null) (Ho and Salimans, 2022); as in
            the release, the null call gets neither the radiograph nor the noisy embedding.
    """
    call: Any = partial(prior, prefix=prior.prefix()) if isinstance(prior, EmbeddingPrior) else prior
    dropped = torch.ones(len(conditioning), dtype=torch.bool, device=conditioning.device)

    def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        conditioned = call(sample, timestep, conditioning)
        if scale == 1:
            return conditioned
        null = call(sample, timestep, conditioning, drop_conditioning=dropped, drop_sample=dropped)
        return null + scale * (conditioned - null)

    return model


@torch.no_grad()
def sample_embeddings(
    prior: nn.Module,
    scheduler: Any,
    conditioning: torch.Tensor,
    generator: torch.Generator | list[torch.Generator],
    steps: int | None = None,
    draws: int = 1,
    guidance_scale: float = 1.0,
) -> torch.Tensor:
    """(B, draws, E): ``draws`` clean embeddings for each radiograph, scaled as in the prior's training.

    Args:
        prior: of `guided`, in evaluation mode.
        scheduler: any of diffusers' with prediction_type "sample", or an AnalyticDPMScheduler.
        conditioning: (B, E), the radiographs' embeddings.
        generator: of the noise; or one for each draw of each radiograph, (B * draws).
        steps: None takes every noise level.
        draws: independent samples for each radiograph.
        guidance_scale: of `guided`.
    """
    repeated = conditioning.repeat_interleave(draws, 0)
    noise = randn_tensor(repeated.shape, generator, repeated.device, repeated.dtype)
    model = guided(prior, repeated, guidance_scale)
    steps = steps or int(scheduler.config["num_train_timesteps"])
    drawn = sample_latents(model, scheduler, noise, steps, generator)
    return drawn.unflatten(0, (len(conditioning), draws))


def most_similar(drawn: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """(B, E): for each radiograph that of its draws (B, K, E) with the largest cosine to ``reference`` (B,
    E).
    In the release K is 2 and the reference is the radiograph's embedding (Ramesh et al., 2022, section
    2.2)."""
    likeness = torch.cosine_similarity(drawn, reference[:, None], dim=-1)
    return drawn[torch.arange(len(drawn), device=drawn.device), likeness.argmax(1)]
