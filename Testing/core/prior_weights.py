"""A tiny prior of CMKD with random weights, none of them at its initial value."""

from typing import Any

import torch

from xray2ctpa_core.models.denoisers.prior import EmbeddingPrior

DIM = 24
TINY: dict[str, Any] = {
    "dim": DIM, "depth": 2, "heads": 3, "dim_head": 40, "num_timesteps": 100, "max_text_len": 5,
    "ff_mult": 2.0,
}  # fmt: skip


def random_prior(seed: int = 0, **changes: Any) -> EmbeddingPrior:
    """In evaluation mode; gains and biases are random too."""
    prior = EmbeddingPrior(**{**TINY, **changes})
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in prior.named_parameters():
        if parameter.requires_grad:
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.data = 1 + 0.2 * drawn if name.endswith(".g") else 0.3 * drawn
    return prior.eval()
