"""Stage: few-step sampling, by consistency distillation of a trained denoiser.

From any noisy latents the student predicts in one step the end of the teacher's sampling trajectory: its
predictions at two neighbouring points of a trajectory must agree (Song et al., Consistency Models, ICML 2023,
algorithm 2). As in Latent Consistency Models (Luo et al., 2023) neighbours are several timesteps apart and
the teacher moves from one to the next by DDIM; as in Improved Consistency Training (Song and Dhariwal, ICLR
2024, section 3.2) the target is the student itself, without gradient.
"""

import copy

import torch
from diffusers import DDPMScheduler
from torch import nn

from xray2ctpa_core.diffusion.sampling import clean_estimate, signal_and_noise
from xray2ctpa_core.diffusion.schedulers import CONSISTENCY_LEVELS
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.training.stages.denoiser import DenoiserStage


class ConsistencyStage(DenoiserStage):
    """Squared difference of the clean latents predicted at two neighbouring noise levels of a trajectory.

    Args:
        denoiser: the student, with the weights of the teacher; the teacher is copied from it here.
        encoder, scheduler, feature_noise, channel_weights: as in DenoiserStage, from the teacher's training.
        lowest_temperature: noisy latents are multiplied by a random factor between this and 1, because the
            pipeline scales its initial noise by a temperature of at most 1.
    """

    def __init__(
        self,
        denoiser: SpatialDenoiser,
        encoder: XrayEncoder,
        scheduler: DDPMScheduler,
        feature_noise: float,
        channel_weights: torch.Tensor,
        lowest_temperature: float,
    ) -> None:
        super().__init__(denoiser, encoder, scheduler, feature_noise, channel_weights)
        self._teacher = copy.deepcopy(denoiser).eval().requires_grad_(False)
        self._apart = scheduler.config["num_train_timesteps"] // CONSISTENCY_LEVELS
        self._lowest_temperature = lowest_temperature

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents, conditioning = self._case(batch, generator)
        device, cases = latents.device, len(latents)
        level = torch.randint(1, CONSISTENCY_LEVELS + 1, (cases,), generator=generator, device=device)
        timesteps = level * self._apart - 1
        noise = torch.randn(latents.shape, generator=generator, device=device)
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        factor = torch.rand((cases, 1, 1, 1, 1), generator=generator, device=device)
        split = self._denoiser.config["latent_channels"]
        noisy[:, :split] *= self._lowest_temperature + (1 - self._lowest_temperature) * factor

        def said(network: nn.Module, sample: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            predicted = network(sample, at, conditioning).float()
            return clean_estimate(self._scheduler, sample, predicted, at)

        with torch.no_grad():
            before = timesteps - self._apart
            end = said(self._teacher.to(device), noisy, timesteps)
            nearer = self._ddim(noisy, end, timesteps, before.clamp_min(0))
            target = said(module, nearer, before.clamp_min(0))
            target = torch.where((before < 0).reshape(-1, 1, 1, 1, 1), end, target)
        return self._error(said(module, noisy, timesteps), target)

    def _ddim(
        self, noisy: torch.Tensor, clean: torch.Tensor, start: torch.Tensor, stop: torch.Tensor
    ) -> torch.Tensor:
        """One deterministic step of DDIM (Song et al., ICLR 2021, eq. 12 with sigma 0)."""
        signal, noise = (part.to(noisy) for part in signal_and_noise(self._scheduler, start))
        next_signal, next_noise = (part.to(noisy) for part in signal_and_noise(self._scheduler, stop))
        return next_signal * clean + next_noise * (noisy - signal * clean) / noise
