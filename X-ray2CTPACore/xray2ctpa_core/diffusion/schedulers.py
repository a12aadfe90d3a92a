"""The schedulers a user can name, all from diffusers, all from one noise schedule."""

from typing import Any

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from xray2ctpa_core.errors import InputError

#: Noise levels between which a few-step denoiser was taught to agree (training.consistency), and at some of
#: which it samples.
CONSISTENCY_LEVELS = 25
#: The sampler of few-step denoisers, and of them alone (Luo et al., Latent Consistency Models, 2023).
FEW_STEP = "lcm"
#: DPM-Solver++ (Lu et al., 2022), DDIM (Song et al., ICLR 2021), DDPM (Ho et al., NeurIPS 2020), UniPC (Zhao
#: et al., NeurIPS 2023) and Euler steps (Karras et al., NeurIPS 2022).
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "timestep_spacing": "trailing"}),
    "ddim": (DDIMScheduler, {"timestep_spacing": "trailing"}),
    "ddpm": (DDPMScheduler, {"timestep_spacing": "trailing"}),
    "unipc": (UniPCMultistepScheduler, {"timestep_spacing": "trailing"}),
    "euler": (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    FEW_STEP: (LCMScheduler, {"original_inference_steps": CONSISTENCY_LEVELS}),
}
#: What every scheduler takes over from the noise schedule the denoiser was trained with.
_SHARED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
#: Standardised latents reach beyond [-1, 1]; kept also in schedulers that know no clipping, so that a swap by
#: from_config does not bring diffusers' default (on) back.
_UNCLIPPED = {"clip_sample": False, "thresholding": False}


def make_scheduler(name: str, trained: Any) -> Any:
    """The scheduler ``name`` for the noise schedule of ``trained`` (a diffusers scheduler).

    Raises:
        InputError: unknown name.
    """
    if name not in SCHEDULERS:
        raise InputError(f"Expected a scheduler of {', '.join(SCHEDULERS)}, got {name!r}.")
    scheduler_class, own = SCHEDULERS[name]
    shared = {key: trained.config[key] for key in _SHARED if key in trained.config}
    return scheduler_class.from_config({**shared, **own, **_UNCLIPPED})


def is_sampler(scheduler: Any, name: str) -> bool:
    """Whether ``scheduler`` is of the class that ``name`` stands for, with whatever settings; the noise
    schedule of training, which is of no sampler's settings, is not."""
    return type(scheduler) is SCHEDULERS[name][0] if name in SCHEDULERS and name != "ddpm" else False


def most_steps(scheduler: Any) -> int:
    """The largest number of steps that ``scheduler`` takes."""
    config = scheduler.config
    return int(config.get("original_inference_steps", config["num_train_timesteps"]))


def papers_schedule() -> DDPMScheduler:
    """Cosine schedule, T = 1000, s = 0.008 (Nichol and Dhariwal, ICML 2021); diffusers ends its betas at
    0.999, the release at 0.9999, which changes the last step alone."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        clip_sample=False,
    )
