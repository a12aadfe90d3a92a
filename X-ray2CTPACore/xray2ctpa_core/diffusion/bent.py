"""Diffused variables with a bank of atlases: the map's residual, and the person whose tissue is used.

A sample is one real person's tissue, deformed, and therefore always sharp. The person is encoded by analog
bits (Chen et al., ICLR 2023): one channel for each person, 1 for the chosen one and -1 for all others,
constant over all places.
"""

from collections.abc import Sequence
from typing import Any

import torch

from xray2ctpa_core.models.encoders.atlas import resized, to_map_grid
from xray2ctpa_core.models.encoders.bank_encoder import BankConditioning, BankFeatures
from xray2ctpa_core.models.on_device import along_channels


def to_diffused_bank(
    denoiser: Any, features: BankFeatures, template_map: torch.Tensor, person: torch.Tensor
) -> torch.Tensor:
    """(B, K + 3, d, h, w): a patient's tissue and map as ``denoiser`` diffuses them.

    Args:
        denoiser: latent_channels of its configuration are the K people.
        features: of the radiographs.
        template_map: (B, 3, *MAP_GRID), the true map.
        person: (B,), numbers of the people whose tissue is used.
    """
    size = features.lifted.shape[2:]
    change = resized(template_map - features.template_map, size)
    bits = -torch.ones(len(person), denoiser.config["latent_channels"], device=person.device)
    bits[torch.arange(len(person), device=person.device), person] = 1
    bits = bits[:, :, None, None, None].expand(-1, -1, *size)
    return torch.cat([bits, change / along_channels(denoiser.config["map_std"], change)], 1)


def bent_latents(
    denoiser: Any,
    conditioning: BankConditioning,
    diffused: torch.Tensor,
    template_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, C, d, h, w): the latents of a sample.

    Args:
        denoiser, conditioning: those of the sample.
        diffused: (B, K + 3, d, h, w), the sample.
        template_map: replaces the sample's map.
    """
    if template_map is None:
        template_map = bent_map(denoiser, conditioning, diffused)
    return conditioning.latents(template_map, person_of(denoiser, diffused))


def person_of(denoiser: Any, diffused: torch.Tensor) -> torch.Tensor:
    """(B,): numbers of the people whose tissue a sample has."""
    return diffused[:, : denoiser.config["latent_channels"]].mean((2, 3, 4)).argmax(1)


def bent_map(
    denoiser: Any,
    conditioning: BankConditioning,
    diffused: torch.Tensor,
    spreads: Sequence[float] = (1.0, 1.0, 1.0),
) -> torch.Tensor:
    """(B, 3, *MAP_GRID): a sample's map; ``spreads``, along x, y and z, multiply its difference from the
    expected one."""
    change = diffused[:, denoiser.config["latent_channels"] :]
    std = [std * spread for std, spread in zip(denoiser.config["map_std"], spreads, strict=True)]
    return conditioning.template_map + to_map_grid(change * along_channels(std, change))
