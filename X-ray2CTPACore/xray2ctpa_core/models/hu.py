"""Conversion between Hounsfield units and the networks' range."""

from collections.abc import Sequence

import torch


def normalise_hu(hu: torch.Tensor, window: Sequence[float]) -> torch.Tensor:
    """HU -> [-1, 1], clipped to ``window`` = (lower, upper)."""
    lower, upper = window
    return ((hu.float() - lower) * (2 / (upper - lower)) - 1).clamp(-1, 1)


def denormalise_hu(values: torch.Tensor, window: Sequence[float]) -> torch.Tensor:
    """[-1, 1] -> HU, the inverse of `normalise_hu`; values beyond [-1, 1] are clipped."""
    lower, upper = window
    return (values.float().clamp(-1, 1) + 1) * ((upper - lower) / 2) + lower
