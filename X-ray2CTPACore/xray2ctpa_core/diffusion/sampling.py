"""Sampling: a short loop over any denoiser and any diffusers scheduler."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

#: Lower bound of the signal by which x0 is divided: at the last timesteps it is almost 0.
SMALLEST_SIGNAL = 1e-3

#: model(sample, timestep (B,)) -> prediction of sample's shape.
Model = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: on_step_end(step, timestep, latents, estimate) -> latents; ``estimate()`` computes the clean latents.
StepEnd = Callable[[int, Any, torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor]


def initial_noise(
    shape: tuple[int, ...], seed: int, sample: int, device: torch.device
) -> tuple[torch.Tensor, torch.Generator]:
    """Noise of sample number ``sample`` (1, *shape), and the generator for its later steps.

    The noise is drawn on the CPU; it depends neither on the device nor on the number of samples. Samples come
    in antithetic pairs: sample 1 has the negated noise of sample 0, sample 3 that of sample 2 (Jia et al.,
    Antithetic Noise in Diffusion Models, 2025). Each follows the same distribution, but their mean and spread
    converge with fewer samples.
    """
    pair = sample - sample % 2
    noise = torch.randn((1, *shape), generator=_generator(seed, pair))
    generator = _generator(seed, sample)
    torch.randn((1, *shape), generator=generator)  # advances the generator past the noise, for later steps
    return (noise if sample == pair else -noise).to(device), generator


def _generator(seed: int, sample: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed((seed * 1_000_003 + sample) % 2**63)


@torch.no_grad()
def sample_latents(
    model: Model,
    scheduler: Any,
    noise: torch.Tensor,
    steps: int,
    generator: torch.Generator | list[torch.Generator],
    on_step_end: StepEnd | None = None,
) -> torch.Tensor:
    """Denoises ``noise`` (B, C, D, H, W) in ``steps`` steps.

    Args:
        model: called with (sample, timestep (B,)).
        scheduler: a diffusers scheduler; its timesteps are set here.
        noise: standard normal.
        steps: number of steps.
        generator: for schedulers that add noise in each step; or one for each of the B.
        on_step_end: called after each step; returns the latents for the next step.

    The scheduler's timesteps stay on the CPU, because each look-up on a GPU would synchronise with it. The
    model gets them on the device of ``noise``.
    """
    scheduler.set_timesteps(steps, device="cpu")
    on_device = scheduler.timesteps.to(noise.device)
    latents = noise * scheduler.init_noise_sigma
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if takes_generator else {}
    for step, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)
        predicted = model(scaled, on_device[step].reshape(1).expand(len(latents)))
        latents = scheduler.step(predicted, timestep, latents, **extra).prev_sample
        if on_step_end is not None:
            estimate = functools.partial(clean_estimate, scheduler, scaled, predicted, timestep)
            latents = on_step_end(step, timestep, latents, estimate)
    return latents


def clean_estimate(
    scheduler: Any, sample: torch.Tensor, predicted: torch.Tensor, timestep: torch.Tensor
) -> torch.Tensor:
    """The clean latents x0 that a prediction implies.

    DDPM (Ho et al., NeurIPS 2020), eq. 15; for v, Salimans and Ho, ICLR 2022, appendix D.

    Args:
        scheduler: gives alphas_cumprod and prediction_type.
        sample: (B, C, D, H, W), input of the model, with signal^2 + noise^2 = 1.
        predicted: output of the model, of the scheduler's prediction_type.
        timestep: () for all, or (B,).
    """
    signal, noise = (part.to(sample) for part in signal_and_noise(scheduler, timestep))
    if scheduler.config["prediction_type"] == "v_prediction":
        return signal * sample - noise * predicted
    if scheduler.config["prediction_type"] == "epsilon":
        return (sample - noise * predicted) / signal.clamp_min(SMALLEST_SIGNAL)
    return predicted


def clipped_epsilon(
    scheduler: Any, sample: torch.Tensor, epsilon: torch.Tensor, timestep: torch.Tensor, largest: float
) -> torch.Tensor:
    """The noise that corresponds to the clean estimate clipped to [-largest, largest], for any scheduler.

    At the first steps an error of epsilon becomes a thousand times as large in x0. The release therefore
    clips to [-1, 1], as Ho et al.'s code does; some schedulers of diffusers do not clip, or to other ranges.

    Args:
        scheduler, sample, timestep: as in ``clean_estimate``, with prediction_type "epsilon".
        epsilon: the predicted noise.
        largest: bound, in units of the sample's clean latents.
    """
    clean = clean_estimate(scheduler, sample, epsilon, timestep).clamp(-largest, largest)
    signal, noise = (part.to(sample) for part in signal_and_noise(scheduler, timestep))
    return (sample - signal * clean) / noise


def signal_and_noise(scheduler: Any, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at ``timestep``, () or (B,): each (B, 1, 1, 1, 1) on its
    device, float64 (float32 on mps); B is 1 for (). Does not synchronise with the device."""
    kept = scheduler.alphas_cumprod.double()
    places = timestep.long().reshape(-1)
    exact = torch.float32 if timestep.device.type == "mps" else torch.float64
    signal, noise = (part.to(places.device, exact)[places] for part in (kept.sqrt(), (1 - kept).sqrt()))
    return signal.reshape(-1, 1, 1, 1, 1), noise.reshape(-1, 1, 1, 1, 1)
