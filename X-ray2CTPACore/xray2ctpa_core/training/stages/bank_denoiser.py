"""Stage: the denoiser of a bent bank of atlases; it diffuses the map's open components and whose tissue."""

import torch
from diffusers import DDPMScheduler
from torch import nn
from torch.nn import functional

from xray2ctpa_core.diffusion.bent import to_diffused_bank
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.protocols import Conditioning

#: Largest standard deviations of the noise added to radiographs: white, and smooth over a quarter of a frame.
_WHITE, _SMOOTH = 0.03, 0.08


class BankDenoiserStage:
    """Squared error of v (Salimans and Ho, ICLR 2022, appendix D); the encoder is frozen.

    Whose tissue a sample has, the radiograph does not tell: it is drawn, each person of the bank as often.

    Args:
        denoiser: the module.
        encoder: gives the conditioning.
        scheduler: noise schedule, v-prediction.
        feature_noise: of the noise added to the embedding, in its standard deviations; without it a network
            tells the people of training apart, and takes what is open for known.
    """

    def __init__(
        self,
        denoiser: BankDenoiser,
        encoder: BankEncoder,
        scheduler: DDPMScheduler,
        feature_noise: float = 0.5,
    ) -> None:
        self.module: nn.Module = denoiser
        self._denoiser, self._encoder = denoiser, encoder.eval().requires_grad_(False)
        self._scheduler, self._feature_noise = scheduler, feature_noise
        self._people = denoiser.config["latent_channels"]

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        device, cases = batch["image"].device, len(batch["image"])
        with torch.no_grad():
            image = noisy_radiographs(batch["image"], generator)
            features = self._encoder.to(device)(image)
            person = torch.randint(self._people, (cases,), generator=generator, device=device)
            clean = to_diffused_bank(self._denoiser, features, batch["template_map"].float(), person)
        noise = torch.randn(features.embedding.shape, generator=generator, device=device)
        embedding = features.embedding + self._feature_noise * self._denoiser.embedding_std * noise
        where = torch.sigmoid(torch.randn(cases, generator=generator, device=device) * 1.2)
        timesteps = (where * self._scheduler.config["num_train_timesteps"]).long()
        noise = torch.randn(clean.shape, generator=generator, device=device)
        noisy = self._scheduler.add_noise(clean, noise, timesteps)
        target = self._scheduler.get_velocity(clean, noise, timesteps)
        predicted = module(noisy, timesteps, Conditioning(embedding)).float()
        error = (predicted - target).square()
        tissue, map_error = error[:, : self._people].mean(), error[:, self._people :].mean()
        return tissue + map_error, {"tissue": tissue.detach(), "map": map_error.detach()}


def noisy_radiographs(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(B, 1, P, P) with white and smooth noise of random strength."""
    cases, size = len(image), image.shape[-2:]

    def draw(*shape: int, uniform: bool = False) -> torch.Tensor:
        make = torch.rand if uniform else torch.randn
        return make(cases, 1, *shape, generator=generator, device=image.device)

    field = functional.interpolate(draw(4, 4), size=size, mode="bicubic")
    return (
        image + _WHITE * draw(1, 1, uniform=True) * draw(*size) + _SMOOTH * draw(1, 1, uniform=True) * field
    )
