"""Stage: the denoiser of a bent bank of atlases; it diffuses the map's open components and whose tissue."""

import torch
from diffusers import DDPMScheduler
from torch import nn
from torch.utils.data import Dataset

from xray2ctpa_core.diffusion.bent import to_diffused_bank
from xray2ctpa_core.models.denoisers.bank import BankDenoiser


class OpenPatients(Dataset[dict[str, torch.Tensor]]):
    """What the stage is trained on, of N patients; indexed by (case, seed), as in `training.loop`.

    Args:
        embedding: (N, E), the encoder's, of their radiographs.
        numbers: (N, R), of their maps (diffusion.bent.open_numbers).
    """

    def __init__(self, embedding: torch.Tensor, numbers: torch.Tensor) -> None:
        self._embedding, self._numbers = embedding, numbers

    def __len__(self) -> int:
        return len(self._embedding)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        return {"embedding": self._embedding[key[0]], "numbers": self._numbers[key[0]]}


class BankDenoiserStage:
    """Squared error of v (Salimans and Ho, ICLR 2022, appendix D), on OpenPatients.

    Whose tissue a sample has, the radiograph does not tell: it is drawn, each person of the bank as often.

    Args:
        denoiser: the module.
        scheduler: noise schedule, v-prediction.
        feature_noise: of the noise added to the embedding, in its standard deviations; without it a network
            tells the people of training apart, and takes what is open for known.
    """

    def __init__(self, denoiser: BankDenoiser, scheduler: DDPMScheduler, feature_noise: float = 0.5) -> None:
        self.module: nn.Module = denoiser
        self._denoiser, self._scheduler, self._feature_noise = denoiser, scheduler, feature_noise

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        embedding, numbers = batch["embedding"], batch["numbers"]
        device, cases, people = numbers.device, len(numbers), self._denoiser.config["latent_channels"]

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=device)

        embedding = embedding + self._feature_noise * self._denoiser.embedding_std * normal(*embedding.shape)
        person = torch.randint(people, (cases,), generator=generator, device=device)
        clean = to_diffused_bank(people, person, numbers)
        where = torch.sigmoid(normal(cases) * 1.2)
        timesteps = (where * self._scheduler.config["num_train_timesteps"]).long()
        noise = normal(*clean.shape)
        noisy = self._scheduler.add_noise(clean, noise, timesteps)
        target = self._scheduler.get_velocity(clean, noise, timesteps)
        error = (module(noisy, timesteps, embedding).float() - target).square()
        tissue, of_map = error[:, :people].mean(), error[:, people:].mean()
        return tissue + of_map, {"tissue": tissue.detach(), "map": of_map.detach()}
