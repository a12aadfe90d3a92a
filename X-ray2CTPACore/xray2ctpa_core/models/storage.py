"""Networks in few bytes, for a bundle that a repository carries."""

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def in_8_bits(network: Network) -> Network:
    """The network with its matrices and kernels in 8 bits (float8 e4m3), all else in half precision, to be
    stored: `from_pretrained` loads it in the precision that is asked for."""
    network.half()
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.data = weight.data.to(torch.float8_e4m3fn)
    return network
