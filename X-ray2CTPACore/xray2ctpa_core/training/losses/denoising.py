"""The papers' objective for the denoiser: terms of the predicted noise and of the clean estimate.

X-ray2CTPA, eq. 6 to 10: L1 of epsilon + 0.01 perceptual + 0.001 adversarial + 0.08 classifier. The last three
judge the clean estimate x0-hat, whose gradient to epsilon grows as noise / signal: 6 at t = 900, 640 at
t = 999. Here every case is weighed by the inverse, at most 1 (`reach_weight`), and estimates beyond the range
of latents are scaled back (`within_range`), as by Imagen's dynamic thresholding (Saharia et al., NeurIPS
2022, section 2.3). The frozen networks so receive latents in the range of their training, and no term
saturates.
"""

from collections.abc import Callable
from typing import Any

import torch
from monai.networks.nets import PatchDiscriminator
from torch import nn
from torch.nn import functional

from xray2ctpa_core.diffusion.sampling import SMALLEST_SIGNAL, signal_and_noise
from xray2ctpa_core.errors import ConfigError

#: An estimate may be this many times as large as the latents it estimates (root mean square).
_LARGEST_ESTIMATE = 2.0


def reach_weight(scheduler: Any, timestep: torch.Tensor) -> torch.Tensor:
    """(B,) float32: min(1, signal / noise) at (B,) timesteps, the inverse of the derivative of x0-hat by
    epsilon."""
    signal, noise = signal_and_noise(scheduler, timestep)
    weight = (signal.clamp_min(SMALLEST_SIGNAL) / noise).clamp_max(1.0)
    return weight.flatten().float().to(timestep.device)


def within_range(estimate: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """The estimates (B, C, D, H, W), scaled down to at most _LARGEST_ESTIMATE times the root mean square of
    ``latents``; the factor is detached."""
    size = estimate.detach().square().mean((1, 2, 3, 4), keepdim=True).sqrt()
    allowed = _LARGEST_ESTIMATE * latents.square().mean((1, 2, 3, 4), keepdim=True).sqrt()
    return estimate * (allowed / size.clamp_min(1e-12)).clamp_max(1.0)


def slice_distance(
    distance: nn.Module,
    decode_slices: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    estimate: torch.Tensor,
    latents: torch.Tensor,
    where: torch.Tensor,
) -> torch.Tensor:
    """Perceptual distance of one decoded slice a case, (B,) (X-ray2CTPA, eq. 7).

    Args:
        distance: of slices (B, 1, H, W) in [-1, 1].
        decode_slices: of a codec (models.codecs.codec.Codec); differentiable, frozen.
        estimate, latents: (B, C, d, h, w), of the codec.
        where: (B,) in [0, 1), position of the slice along the depth.
    """
    with torch.no_grad():
        reference = decode_slices(latents, where)
    return distance(decode_slices(estimate, where), reference)


def build_discriminator(channels: int, grid: tuple[int, ...], layers: int = 4, width: int = 32) -> nn.Module:
    """PatchGAN (Isola et al., CVPR 2017) on latents, volumes or slices (B, channels, *grid) -> (B, 1, ...)
    scores.

    Args:
        channels: channels of its input.
        grid: (D, H, W) or (H, W) of its input.
        layers: convolutions before the last one, all but one of stride 2; 4 in the papers.
        width: channels of the first one, doubled by each; 32 in X-ray2CTPA, 64 in XctDiff.

    Raises:
        ConfigError: the grid is too small for the number of layers.
    """
    if layers < 2 or width % 8:
        raise ConfigError(f"Expected at least 2 layers and a width that 8 divides, got {layers}, {width}.")
    smallest = min(grid) >> (layers - 1)
    if smallest < 3:
        raise ConfigError(
            f"A grid of {tuple(grid)} is too small for a discriminator of {layers} layers.",
            "Set discriminator_layers lower.",
        )
    return PatchDiscriminator(
        spatial_dims=len(grid),
        channels=width,
        in_channels=channels,
        num_layers_d=layers - 1,
        norm=("group", {"num_groups": 8}),
    )


def realism(discriminator: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """(B,), the generator's least-squares loss (Mao et al., ICCV 2017): 0 where the discriminator scores
    ``latents`` (or volumes) as real.

    The gradient reaches ``latents`` but not the discriminator.
    """
    weights = {name: p.detach() for name, p in discriminator.named_parameters()}
    scores = torch.func.functional_call(discriminator, weights, latents)[-1]
    return (scores.float() - 1).square().flatten(1).mean(1)


def discriminator_loss(discriminator: nn.Module, real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
    """(), the discriminator's least-squares loss: targets are 1 for real latents (or volumes) and 0 for
    generated ones. Both (B, C, D, H, W), without gradients."""
    scores = discriminator(torch.cat([real, generated]))[-1].float()
    for_real, for_generated = scores.chunk(2)
    return ((for_real - 1).square().mean() + for_generated.square().mean()) / 2


def embolism_loss(logits: torch.Tensor, labels: torch.Tensor, pos_weight: float) -> torch.Tensor:
    """Binary cross-entropy of each case, (B,), from (B, 1) logits and (B,) labels (X-ray2CTPA, eq. 9)."""
    weight = torch.tensor(pos_weight, device=logits.device)
    return functional.binary_cross_entropy_with_logits(
        logits.float().squeeze(1), labels, pos_weight=weight, reduction="none"
    )
