"""Frequencies of rotary position embeddings (Su et al., 2021, eq. 15), with the released tensor name."""

from typing import Any

import torch
from torch import nn

_BASE = 10_000.0


class SharedFrequencies(nn.Module):
    """``freqs`` (dims / 2): those of pairs of ``dims`` dimensions. One module serves all layers of a network;
    files of safetensors hold no shared memory, so that each layer's state is saved as a copy."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        exponents = torch.arange(0, dims, 2) / dims
        self.freqs = nn.Parameter(_BASE**-exponents, requires_grad=False)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "freqs"] = self.freqs if keep_vars else self.freqs.detach().clone()
