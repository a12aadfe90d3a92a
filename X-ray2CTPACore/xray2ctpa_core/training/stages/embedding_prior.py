"""Stage: CMKD's prior, which predicts the CTPA embedding from a noisy one and the radiograph's embedding."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.diffusion.prior_readout import PriorReadout
from xray2ctpa_core.training.losses.distillation import Prototypes, mean_divergence, vector_block_loss
from xray2ctpa_core.training.settings.cmkd import PriorLossConfig


class EmbeddingPriorStage:
    """Squared error of the scaled clean embedding, and an extra term of the predicted embedding.

    Batches hold "embedding" (B, E) of radiographs, "target" (B, E) of the teacher, and "label". The extra
    term "bce" is the cross-entropy of the frozen head's probabilities for the predicted and the true
    embedding, without labels; its gradient reaches the prior (it does not in the release).

    Args:
        readout: holds the prior, which is trained, the head and the scaling.
        config: see PriorLossConfig.
    """

    def __init__(self, readout: PriorReadout, config: PriorLossConfig) -> None:
        self._readout, self._config = readout, config
        self.module: nn.Module = _Predicting(readout)
        dim = len(readout.scaling.shift)
        self._prototypes = Prototypes((dim, dim)) if config.extra_loss == "protokd" else None

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        config, readout = self._config, self._readout
        clean = readout.scaling.apply(batch["target"])
        kept = readout.scheduler.alphas_cumprod.to(clean)
        device = clean.device
        timestep = torch.randint(len(kept), (len(clean),), generator=generator, device=device)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        level = kept[timestep][:, None]
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        drops = torch.rand(2, len(clean), generator=generator, device=device) < config.drop
        conditioning = readout.conditioning(batch["embedding"])
        predicted = module(noisy, timestep, conditioning, drops[0], drops[1]).float()
        terms: dict[str, Any] = {"l2": functional.mse_loss(predicted, clean)}
        loss = terms["l2"]
        if config.extra_loss != "none":
            extra = self._extra(readout.scaling.invert(predicted), batch)
            terms[config.extra_loss] = extra
            loss = (1 - config.extra_weight) * loss + config.extra_weight * extra
        return loss, {name: term.detach() for name, term in terms.items()}

    def _extra(self, predicted: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        target, head = batch["target"], self._readout.head
        if self._config.extra_loss == "aftkd":
            return vector_block_loss(predicted, target)
        with torch.no_grad():
            truth = head(target).float()
        if self._prototypes is None:
            return functional.binary_cross_entropy_with_logits(head(predicted).float(), truth.sigmoid())
        prototypes = self._prototypes.to(predicted.device)
        prototypes.update(predicted, target, batch["label"])
        divergence = mean_divergence(head(predicted), truth, self._config.proto_temperature)
        return divergence + prototypes.loss(predicted, target)


class _Predicting(nn.Module):
    """The prior's forward pass for the loop; with one argument the read-out, for `labelled.predict`."""

    def __init__(self, readout: PriorReadout) -> None:
        super().__init__()
        self.readout = readout

    def forward(
        self,
        given: torch.Tensor,
        timestep: torch.Tensor | None = None,
        conditioning: torch.Tensor | None = None,
        drop_conditioning: torch.Tensor | None = None,
        drop_sample: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Noisy embeddings (B, E) -> clean ones (B, E); without ``timestep``: radiographs' embeddings ->
        logits (B, 1) of PE."""
        if timestep is None:
            return self.readout(given)
        return self.readout.prior(
            given, timestep, conditioning, drop_conditioning=drop_conditioning, drop_sample=drop_sample
        )
