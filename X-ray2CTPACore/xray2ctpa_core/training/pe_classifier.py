"""Stage: the latent PE classifier."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.networks.pe_classifier import PEClassifier


class PEClassifierStage:
    """Cross-entropy on latents with added noise, shifted by up to two cells (around the edges).

    Args:
        classifier: the module.
        noise: standard deviation of the noise added to standardised latents.
    """

    def __init__(self, classifier: PEClassifier, noise: float) -> None:
        self.module: nn.Module = classifier
        self._noise = noise

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents = batch["latents"]
        shifts = torch.randint(-2, 3, (3,), generator=generator, device=latents.device).tolist()
        latents = latents.roll(shifts, (2, 3, 4))
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        logits = module(latents + self._noise * noise).float().squeeze(1)
        loss = functional.binary_cross_entropy_with_logits(logits, batch["label"])
        accuracy = ((logits > 0) == (batch["label"] > 0.5)).float().mean()
        return loss, {"accuracy": accuracy.detach()}
