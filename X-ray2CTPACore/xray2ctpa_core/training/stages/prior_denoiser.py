"""Stage: XctDiff's prior-guided denoiser on the codec's latents (arXiv 2406.04679)."""

from typing import Any

import torch
from torch import nn

from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.training.settings.xctdiff import PriorDenoiserConfig


def build_prior_denoiser(
    config: PriorDenoiserConfig, latent_channels: int, spatial_channels: int
) -> PaperDenoiser:
    """The network that ``config`` describes, for the given channels of latents and condition."""
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
    """Error of the predicted noise at uniformly drawn timesteps; the encoder is frozen.

    Batches hold "latents" (B, C, d, h, w), scaled, and "image" (B, 1, P, P).

    Args:
        denoiser: trained.
        encoder: of the condition (models.protocols.RadiographEncoder).
        scheduler: noise schedule.
        config: gives the kind of error.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        encoder: nn.Module,
        scheduler: Any,
        config: PriorDenoiserConfig,
    ) -> None:
        self.module: nn.Module = denoiser
        self._encoder = encoder.eval().requires_grad_(False)
        self._scheduler, self._config = scheduler, config

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents = batch["latents"]
        with torch.no_grad():
            encoder: Any = self._encoder.to(latents.device)
            conditioning = encoder.condition(batch["image"])
        steps = self._scheduler.config["num_train_timesteps"]
        timesteps = torch.randint(steps, (len(latents),), generator=generator, device=generator.device)
        noise = torch.randn(latents.shape, generator=generator, device=generator.device)
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        difference = module(noisy, timesteps, conditioning).float() - noise
        error = difference.abs().mean() if self._config.error == "l1" else difference.square().mean()
        return error, {self._config.error: error.detach()}
