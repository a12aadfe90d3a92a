"""Random numbers of a batch, drawn case by case: what a case gets depends neither on the batch it comes in
nor on the process that it comes to, so that two processes train as one with twice the batch does."""

import torch


class CaseDraws:
    """Draws for each case from a generator of its own, on the CPU: the same on every device.

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
