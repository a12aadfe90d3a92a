"""Random numbers of a batch, drawn case by case. A case's numbers depend neither on its batch nor on its
process: two processes train like one process with twice the batch."""

import torch


class CaseDraws:
    """Draws each case's numbers from its own generator on the CPU: they are the same on every device.

    Args:
        seeds: (B,) integers.
    """

    def __init__(self, seeds: torch.Tensor) -> None:
        self._device = seeds.device
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def uniform(self) -> torch.Tensor:
        """(B,) in [0, 1)."""
        return torch.stack([torch.rand((), generator=g) for g in self._generators]).to(self._device)

    def normal(self, shape: torch.Size) -> torch.Tensor:
        """(B, *shape)."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._generators]).to(self._device)
