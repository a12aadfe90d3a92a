"""Sampling: a short loop over any denoiser and any diffusers scheduler."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

#: Of the noise schedule, in the division that x0 takes: at the last steps hardly any signal is left.
SMALLEST_SIGNAL = 1e-3

#: model(sample, timestep (B,)) -> prediction of sample's shape.
Model = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: on_step_end(step, timestep, latents, estimate) -> latents; ``estimate()`` computes the clean latents.
StepEnd = Callable[[int, Any, torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor]


def initial_noise(
    shape: tuple[int, ...], seed: int, sample: int, device: torch.device
) -> tuple[torch.Tensor, torch.Generator]:
    """Noise of sample number ``sample`` (1, *shape), and the generator for its later steps.

    Drawn on the CPU, so that it is the same on every device, and so that it is the same whatever the number
    of samples. Samples come in antithetic pairs: 1 has the noise of 0 with the sign turned, 3 that of 2 (Jia
    et al., Antithetic Noise in Diffusion Models, 2025). Each is a sample like any other; what they differ by
    averages out sooner, so that a few of them give their mean and their spread.
    """
    pair = sample - sample % 2
    noise = torch.randn((1, *shape), generator=_generator(seed, pair))
    generator = _generator(seed, sample)
    torch.randn((1, *shape), generator=generator)  # later steps go on where the noise ended
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
        on_step_end: called after each step; the next one goes on with what it returns.

    The scheduler's timesteps stay on the CPU, where it looks them up: on a GPU each look-up would wait for
    all that was asked before. The model is given them on the device of ``noise``.
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
        scheduler: whose alphas_cumprod and prediction_type count.
        sample: (B, C, D, H, W), what the model was given, with signal^2 + noise^2 = 1.
        predicted: what it predicted, as the scheduler's prediction_type says.
        timestep: () of all, or (B,).
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
    """The noise that goes with a clean estimate cut off at -largest and largest, of whatever scheduler.

    At the first steps an error of epsilon is a thousand times as large in x0. The release clips to [-1, 1]
    (Ho et al.'s code does); schedulers of diffusers do in part, and to other ranges.

    Args:
        scheduler, sample, timestep: as in ``clean_estimate``, with prediction_type "epsilon".
        epsilon: as predicted.
        largest: in units of the sample's clean latents.
    """
    clean = clean_estimate(scheduler, sample, epsilon, timestep).clamp(-largest, largest)
    signal, noise = (part.to(sample) for part in signal_and_noise(scheduler, timestep))
    return (sample - signal * clean) / noise


def signal_and_noise(scheduler: Any, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at ``timestep``, () or (B,): two (B, 1, 1, 1, 1) on its device,
    float64 (float32 where the device has no other); B is 1 for (). The device is not waited for."""
    kept = scheduler.alphas_cumprod.double()
    places = timestep.long().reshape(-1)
    exact = torch.float32 if timestep.device.type == "mps" else torch.float64
    signal, noise = (part.to(places.device, exact)[places] for part in (kept.sqrt(), (1 - kept).sqrt()))
    return signal.reshape(-1, 1, 1, 1, 1), noise.reshape(-1, 1, 1, 1, 1)
