"""Stage: the 3D VQGAN on crops of volumes (Esser et al., CVPR 2021, section 3.1; XctDiff, arXiv
2406.04679)."""

import torch
from torch import nn

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.codecs.codebook import Quantised, codebook_usage
from xray2ctpa_core.models.codecs.slices import volumes_to_slices
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.training.losses.denoising import discriminator_loss, realism
from xray2ctpa_core.training.settings.codecs import VQGANConfig


def build_vqgan(config: VQGANConfig) -> VQGAN:
    """The network that ``config`` describes; errors as VQGAN."""
    return VQGAN(
        config.channels,
        config.depth_strides,
        config.blocks,
        config.latent_channels,
        config.codes,
        config.groups,
    )


class VQGANStage:
    """L1 + codebook + commitment (+ perceptual distance of slices).

    Logs beside the terms "mse", and of the codebook "perplexity" and "codes_used" in a batch of crops
    (networks.codebook.codebook_usage).

    Args:
        vqgan: trained.
        config: weights.
        distance: of slices (N, 1, H, W) in [-1, 1]; needed where the perceptual term has a weight.

    Raises:
        ConfigError: the perceptual term has a weight and no distance.
    """

    def __init__(self, vqgan: VQGAN, config: VQGANConfig, distance: nn.Module | None = None) -> None:
        if config.perceptual_weight > 0 and distance is None:
            raise ConfigError("A perceptual_weight above 0 needs a distance, got none.")
        self.module: nn.Module = vqgan
        self._config, self._distance = config, distance

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        config, volumes = self._config, batch["volume"]
        quantised: Quantised
        output, quantised = module(volumes)
        output = output.float()
        terms = {
            "l1": (1.0, (output - volumes).abs().mean()),
            "codebook": (config.codebook_weight, quantised.codebook),
            "commitment": (config.commitment_weight, quantised.commitment),
        }
        if config.perceptual_weight > 0:
            terms["perceptual"] = (config.perceptual_weight, self._perceptual(output, volumes, generator))
        terms |= self._judged(output)
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        logged = {name: term.detach() for name, (_, term) in terms.items()}
        logged["mse"] = (output.detach() - volumes).square().mean()
        return loss, logged | codebook_usage(quantised.codes, config.codes)

    def _judged(self, output: torch.Tensor) -> dict[str, tuple[float, torch.Tensor]]:  # noqa: ARG002
        """Further terms of the reconstruction, by name, each with its weight."""
        return {}

    def _perceptual(
        self, output: torch.Tensor, volumes: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        assert self._distance is not None
        count = len(volumes) * volumes.shape[2]
        drawn = len(volumes) * min(self._config.perceptual_slices, volumes.shape[2])
        chosen = torch.randperm(count, generator=generator, device=generator.device)[:drawn]
        image, reference = (volumes_to_slices(v)[chosen.to(v.device)] for v in (output, volumes))
        return self._distance.to(output.device)(image.clamp(-1, 1), reference).mean()


class AdversarialVQGANStage(VQGANStage):
    """With the adversarial term: a TwoPlayerStage.

    Args:
        vqgan, config, distance: as in VQGANStage.
        opponent: discriminator of crops (losses.denoising.build_discriminator).
        opponent_rate: its learning rate.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        config: VQGANConfig,
        distance: nn.Module | None,
        opponent: nn.Module,
        opponent_rate: float = 1e-4,
    ) -> None:
        super().__init__(vqgan, config, distance)
        self.opponent, self.opponent_rate = opponent, opponent_rate

    def _judged(self, output: torch.Tensor) -> dict[str, tuple[float, torch.Tensor]]:
        """See VQGANStage."""
        self.shown = output.detach()
        term = realism(self.opponent.to(output.device), output).mean()
        return {"adversarial": (self._config.adversarial_weight, term)}

    def opponent_loss(self, opponent: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """See TwoPlayerStage."""
        return discriminator_loss(opponent, batch["volume"], self.shown)
