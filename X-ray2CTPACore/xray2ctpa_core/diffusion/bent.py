"""Diffused variables with a bank of atlases: the person whose tissue is used, and the map's open components.

A sample is one real person's tissue, deformed, and therefore always sharp. The person is encoded by analog
bits (Chen et al., ICLR 2023): one number for each person, 1 for the chosen one and -1 for all others.
"""

from typing import Any

import torch

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BankConditioning, BankFeatures


def to_diffused_bank(
    denoiser: Any, features: BankFeatures, template_map: torch.Tensor, person: torch.Tensor
) -> torch.Tensor:
    """(B, K + R, 1, 1, 1): a patient's tissue and map as ``denoiser`` (a BankDenoiser) diffuses them.

    Args:
        denoiser: of K people and R open components.
        features: of the radiographs.
        template_map: (B, 3, *MAP_GRID), the true map.
        person: (B,), numbers of the people whose tissue is used.
    """
    parts = denoiser.map_parts.float()
    change = resized(template_map - features.template_map, parts.shape[2:]).flatten(1)
    parts = parts.flatten(1)
    numbers = change @ parts.T / parts.square().sum(1).clamp(min=1e-9)
    bits = -torch.ones(len(person), denoiser.config["latent_channels"], device=person.device)
    bits[torch.arange(len(person), device=person.device), person] = 1
    return torch.cat([bits, numbers], 1)[:, :, None, None, None]


def bent_latents(
    denoiser: Any,
    conditioning: BankConditioning,
    diffused: torch.Tensor,
    template_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, C, d, h, w): the latents of a sample.

    Args:
        denoiser, conditioning: those of the sample.
        diffused: (B, K + R, 1, 1, 1), the sample.
        template_map: replaces the sample's map.
    """
    if template_map is None:
        template_map = bent_map(denoiser, conditioning, diffused)
    return conditioning.latents(template_map, person_of(denoiser, diffused))


def person_of(denoiser: Any, diffused: torch.Tensor) -> torch.Tensor:
    """(B,): numbers of the people whose tissue a sample has."""
    return diffused[:, : denoiser.config["latent_channels"]].flatten(1).argmax(1)


def bent_map(
    denoiser: Any, conditioning: BankConditioning, diffused: torch.Tensor, spread: float = 1.0
) -> torch.Tensor:
    """(B, 3, *MAP_GRID): a sample's map; ``spread`` multiplies its difference from the expected one."""
    numbers = diffused[:, denoiser.config["latent_channels"] :].flatten(1).float()
    change = torch.einsum("br,rczyx->bczyx", numbers, denoiser.map_parts.float())
    return conditioning.template_map + spread * resized(change, MAP_GRID)
