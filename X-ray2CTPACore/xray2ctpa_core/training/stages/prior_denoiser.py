"""Stage: XctDiff's prior-guided denoiser on the codec's latents (arXiv 2406.04679)."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import nn

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.models.protocols import RadiographEncoder

ERRORS = ("l1", "l2")


@dataclass(frozen=True)
class PriorDenoiserConfig:
    """Architecture (models.denoisers.x_ray2ctpa.PaperDenoiser) and objective.

    Attributes:
        width, multipliers, heads, groups, cross_attention: of the denoiser; planes are axial, as the paper
            has them (the release's are sagittal by the order of its axes).
        error: of the noise: "l1" (release) or "l2" (paper).
        latent_factor: what latents are multiplied by before noise is added; the condition is not.
    """

    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    heads: int = 8
    groups: int = 8
    cross_attention: bool = True
    error: str = "l2"
    latent_factor: float = 0.6

    def __post_init__(self) -> None:
        if self.error not in ERRORS or self.latent_factor <= 0:
            raise ConfigError(
                f"Expected an error out of {', '.join(ERRORS)} and latent_factor > 0, got {self.error!r} and "
                f"{self.latent_factor}."
            )


def xctdiff_schedule() -> DDIMScheduler:
    """T = 1000, betas = linspace(sqrt 0.0015, sqrt 0.0125)²; sampled by DDIM, 50 steps, eta 0, at the
    release's time steps."""
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


def build_prior_denoiser(
    config: PriorDenoiserConfig, latent_channels: int, spatial_channels: int
) -> PaperDenoiser:
    """The network that ``config`` describes, for latents and a condition of so many channels."""
    return PaperDenoiser(
        latent_channels,
        0,
        config.width,
        config.multipliers,
        config.heads,
        config.groups,
        spatial_channels=spatial_channels,
        cross_attention=config.cross_attention,
    )


class PriorDenoiserStage:
    """Error of the predicted noise at timesteps drawn evenly; the encoder is frozen.

    Batches hold "latents" (B, C, d, h, w), scaled, and "image" (B, 1, P, P).

    Args:
        denoiser: trained.
        encoder: of the condition.
        scheduler: noise schedule.
        config: the error.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        encoder: RadiographEncoder,
        scheduler: Any,
        config: PriorDenoiserConfig,
    ) -> None:
        self.module: nn.Module = denoiser
        self._encoder: Any = encoder
        self._encoder.eval().requires_grad_(False)
        self._scheduler, self._config = scheduler, config

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents = batch["latents"]
        with torch.no_grad():
            conditioning = self._encoder.to(latents.device).condition(batch["image"])
        steps = self._scheduler.config["num_train_timesteps"]
        timesteps = torch.randint(steps, (len(latents),), generator=generator, device=generator.device)
        noise = torch.randn(latents.shape, generator=generator, device=generator.device)
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        difference = module(noisy, timesteps, conditioning).float() - noise
        error = difference.abs().mean() if self._config.error == "l1" else difference.square().mean()
        return error, {self._config.error: error.detach()}
