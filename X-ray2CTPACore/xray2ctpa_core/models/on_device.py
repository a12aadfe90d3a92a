"""Tensors of a few numbers, made where they are needed: a list is copied from the host, for which a GPU
waits."""

from collections.abc import Sequence

import torch


def along_channels(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """(1, C, 1, ...), as many axes as ``like`` (B, C, ...) has, of its type and on its device."""
    filled = [torch.full((), value, dtype=like.dtype, device=like.device) for value in values]
    return torch.stack(filled).reshape(1, -1, *(1,) * (like.ndim - 2))
