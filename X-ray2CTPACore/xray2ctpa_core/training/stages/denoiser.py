"""Stage: the denoiser, v-prediction on latents (Salimans and Ho, ICLR 2022, appendix D)."""

import torch
from diffusers import DDPMScheduler
from torch import nn

from xray2ctpa_core.diffusion.residual import expected_template_map, to_diffused
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.protocols import Conditioning, embedding_of


class DenoiserStage:
    """Squared error of v at timesteps drawn with a preference for the middle (logit-normal; Esser et al.,
    ICML 2024, section 3.1). The encoder is frozen.

    Args:
        denoiser: the module.
        encoder: gives the embedding and the lifted features.
        scheduler: noise schedule.
        feature_noise: standard deviation of the noise added to the spatial conditioning, which is less
            accurate on unseen radiographs than on those of the training.
        channel_weights: (1, diffused_channels, 1, 1, 1) weight of each diffused channel.
    """

    def __init__(
        self,
        denoiser: SpatialDenoiser,
        encoder: XrayEncoder,
        scheduler: DDPMScheduler,
        feature_noise: float,
        channel_weights: torch.Tensor,
    ) -> None:
        self.module: nn.Module = denoiser
        self._denoiser = denoiser
        self._encoder = encoder.eval().requires_grad_(False)
        self._scheduler = scheduler
        self._feature_noise = feature_noise
        self._channel_weights = channel_weights
        self._has_map: torch.Tensor | None = None

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents, conditioning = self._case(batch, generator)
        device, cases = latents.device, len(latents)
        where = torch.sigmoid(torch.randn(cases, generator=generator, device=device) * 1.2)
        timesteps = (where * self._scheduler.config["num_train_timesteps"]).long()
        noise = torch.randn(latents.shape, generator=generator, device=device)
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        target = self._scheduler.get_velocity(latents, noise, timesteps)
        predicted = module(noisy, timesteps, conditioning).float()
        return self._error(predicted, target)

    def _case(
        self, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, Conditioning]:
        """The diffused variables of a batch, without noise, and the denoiser's conditioning."""
        latents = batch["latents"]
        with torch.no_grad():
            conditioning = self._encoder.to(latents.device).condition(batch["image"])
            spatial = self._noisy_spatial(conditioning, generator)
            template_map = self._known_map(batch.get("template_map"), conditioning)
            latents = to_diffused(self._denoiser, conditioning, latents, template_map)
        return latents, Conditioning(embedding_of(conditioning).float(), spatial)

    def _known_map(
        self, template_map: torch.Tensor | None, conditioning: Conditioning
    ) -> torch.Tensor | None:
        """The maps into the atlas; an unknown one (NaN) is replaced by the expected map and left out of the
        map's loss."""
        self._has_map = None
        if template_map is None or self._denoiser.config["map_std"] is None:
            return None
        unknown = template_map.isnan()
        self._has_map = ~unknown.flatten(1).any(1)
        return torch.where(unknown, expected_template_map(conditioning), template_map)

    def _error(
        self, predicted: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weighted squared error, and its terms."""
        error = self._channel_weights.to(target) * (predicted - target) ** 2
        split = self._denoiser.config["latent_channels"]
        if self._has_map is not None:
            known = self._has_map.reshape(-1, 1, 1, 1, 1)
            error = torch.cat([error[:, :split], torch.where(known, error[:, split:], 0.0)], 1)
        terms = {"latents": error[:, :split].mean().detach()}
        if error.shape[1] > split:
            terms["map"] = error[:, split:].mean().detach()
        return error.mean(), terms

    def _noisy_spatial(self, conditioning: Conditioning, generator: torch.Generator) -> torch.Tensor | None:
        """Spatial features with noise added; None for a `global` denoiser."""
        if not self._denoiser.config["spatial_channels"] or conditioning.spatial is None:
            return None
        spatial = conditioning.spatial.float()
        noise = torch.randn(spatial.shape, generator=generator, device=spatial.device)
        return spatial + self._feature_noise * noise


def channel_weights(denoiser: SpatialDenoiser, weights: torch.Tensor, map_weight: float) -> torch.Tensor:
    """Loss weights of the channels that ``denoiser`` diffuses, (1, diffused_channels, 1, 1, 1).

    Args:
        denoiser: its configuration gives the diffused channels.
        weights: (1, C, 1, 1, 1) of the latents' channels, by the effect of each on voxels.
        map_weight: of the map's channels; the latents' weights are scaled to a mean of 1.
    """
    residual, map_std = denoiser.config["residual_std"], denoiser.config["map_std"]
    if residual is not None:
        weights = weights * torch.tensor(residual).reshape(weights.shape)
        weights = weights / weights.mean()
    if map_std is not None:
        weights = torch.cat([weights, torch.full((1, len(map_std), 1, 1, 1), map_weight)], 1)
    return weights
