"""The schedulers that a user can name; all are from diffusers and share one noise schedule."""

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

#: Number of noise levels of a few-step denoiser, in training (training.stages.consistency) and sampling.
CONSISTENCY_LEVELS = 25
#: The sampler of few-step denoisers, which needs such a denoiser (Luo et al., Latent Consistency Models,
#: 2023).
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
#: Settings that every scheduler takes from the noise schedule of the denoiser's training.
_SHARED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
#: No clipping, because standardised latents exceed [-1, 1]. Also set in schedulers without clipping, so that
#: a swap by from_config does not restore diffusers' default (on).
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
    """Whether ``scheduler`` has the class of the sampler ``name``, with any settings; False for the noise
    schedule of the training, which is no sampler."""
    return type(scheduler) is SCHEDULERS[name][0] if name in SCHEDULERS and name != "ddpm" else False


def most_steps(scheduler: Any) -> int:
    """The largest number of steps that ``scheduler`` allows."""
    config = scheduler.config
    return int(config.get("original_inference_steps", config["num_train_timesteps"]))


def papers_schedule() -> DDPMScheduler:
    """X-ray2CTPA's cosine schedule, T = 1000, s = 0.008 (Nichol and Dhariwal, ICML 2021). diffusers caps
    betas at 0.999, the release at 0.9999, which changes only the last step."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        clip_sample=False,
    )


def xctdiff_schedule() -> DDIMScheduler:
    """XctDiff's, T = 1000, betas = linspace(sqrt 0.0015, sqrt 0.0125)² (section 3.3); for DDIM with eta 0, at
    the release's timesteps."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.0015,
        beta_end=0.0125,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
