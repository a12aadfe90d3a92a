"""Stage: a tiny decoder, distilled from an autoencoder's decoder by its outputs (Hinton et al., 2015)."""

import torch
from diffusers import AutoencoderKL
from torch import nn

from xray2ctpa_core.models.codecs.slices import from_autoencoder
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.training.settings.codecs import TinyDecoderConfig


class TinyDecoderStage:
    """L1 to the true slice + L1 to the autoencoder's decoding (+ perceptual distance to the true slice).

    Args:
        decoder: the module.
        autoencoder: the one that encoded the latents; frozen.
        config: weights.
        distance: perceptual distance of slices; needed where it has a weight.
    """

    def __init__(
        self,
        decoder: TinyDecoder,
        autoencoder: AutoencoderKL,
        config: TinyDecoderConfig,
        distance: nn.Module | None = None,
    ) -> None:
        self.module: nn.Module = decoder
        self._teacher = autoencoder.eval().requires_grad_(False)
        self._config, self._distance = config, distance

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage; "latents" (B, S, C, h, w) and "slice" (B, S, 1, H, W), S slices of each case."""
        latents, slices = batch["latents"].flatten(0, 1), batch["slice"].flatten(0, 1)
        output = module(latents).float()
        with torch.no_grad():
            decoded = from_autoencoder(self._teacher.to(latents.device).decode(latents).sample.float())
        terms = {
            "l1": (output - slices).abs().mean(),
            "teacher": (output - decoded.clamp(-1, 1)).abs().mean(),
        }
        loss = terms["l1"] + self._config.teacher_weight * terms["teacher"]
        if self._distance is not None and self._config.perceptual_weight > 0:
            distance = self._distance.to(output.device)
            terms["perceptual"] = distance(output.clamp(-1, 1), slices).mean()
            loss = loss + self._config.perceptual_weight * terms["perceptual"]
        return loss, {name: term.detach() for name, term in terms.items()}
