"""Stage: the 2D KL autoencoder on slices (Rombach et al., CVPR 2022, section 3.1)."""

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from xray2ctpa_core.metrics.perceptual import PerceptualDistance
from xray2ctpa_core.models.codecs.slices import from_autoencoder, to_autoencoder
from xray2ctpa_core.training.settings.codecs import AutoencoderConfig


def build_autoencoder(config: AutoencoderConfig, slice_size: int) -> AutoencoderKL:
    """AutoencoderKL of diffusers for slices of ``slice_size`` pixels a side."""
    levels = len(config.channels)
    return AutoencoderKL(
        in_channels=config.fold**2,
        out_channels=config.fold**2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.channels),
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=16,
        sample_size=slice_size // config.fold,
        mid_block_add_attention=False,
    )


class AutoencoderForward(nn.Module):
    """Autoencoder whose forward is the whole training pass, as wrappers (DDP) require."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, slices: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, Any]:
        """(N, 1, H, W) in [-1, 1] -> its reconstruction and the latents' distribution."""
        folded = to_autoencoder(slices, self.autoencoder.config["in_channels"])
        posterior = self.autoencoder.encode(folded).latent_dist
        return from_autoencoder(self.autoencoder.decode(posterior.sample(generator)).sample), posterior


class AutoencoderStage:
    """L1 + edges + KL (+ perceptual distance)."""

    def __init__(self, autoencoder: AutoencoderKL, config: AutoencoderConfig) -> None:
        self.module = AutoencoderForward(autoencoder)
        self._config = config
        self._perceptual = PerceptualDistance() if config.perceptual_weight > 0 else None

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        slices = batch["slice"]
        output, posterior = module(slices, generator)
        output = output.float()
        l1 = (output - slices).abs().mean()
        edges = sum((output.diff(dim=d) - slices.diff(dim=d)).abs().mean() for d in (2, 3))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        terms = {"l1": l1, "edges": edges, "kl": kl, "mse": functional.mse_loss(output, slices)}
        loss = l1 + self._config.edge_weight * edges + self._config.kl_weight * kl
        if self._perceptual is not None:
            terms["perceptual"] = self._perceptual.to(output.device)(output.clamp(-1, 1), slices).mean()
            loss = loss + self._config.perceptual_weight * terms["perceptual"]
        return loss, {name: term.detach() for name, term in terms.items()}
