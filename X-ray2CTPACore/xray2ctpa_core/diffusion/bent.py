"""Diffused variables with a bank of atlases: the person whose tissue is used, and the map's open components.

A sample is one real person's tissue, deformed, and therefore always sharp. The person is encoded by analog
bits (Chen et al., ICLR 2023): one number for each person, 1 for the chosen one and -1 for all others.
"""

from typing import Any

import torch
from torch.nn import functional

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BankConditioning


def open_numbers(map_parts: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """(B, R): how much of each of ``map_parts`` (R, 3, n, n, n), which lie across each other, is in maps'
    differences from the expected ones (B, 3, ...)."""
    parts = map_parts.float().flatten(1)
    nodes = resized(change, map_parts.shape[2:]).flatten(1)
    return nodes @ parts.T / parts.square().sum(1).clamp(min=1e-9)


def to_diffused_bank(people: int, person: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """(B, K + R, 1, 1, 1): whose tissue, ``person`` (B,) of K ``people``, and ``numbers`` (B, R) of the map,
    as a BankDenoiser diffuses them."""
    bits = 2 * functional.one_hot(person, people).to(numbers) - 1
    return torch.cat([bits, numbers], 1)[:, :, None, None, None]


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
