"""Vector quantisation by a learned codebook, with XctDiff's homogeneous distances or with Euclidean ones.

van den Oord et al., NeurIPS 2017, eq. 1 to 3 (nearest code, straight-through estimator, the two losses).
Homogeneous (XctDiff, arXiv 2406.04679): on z-scored vectors, N brings every vector to mean 0 and variance 1,
so that a code is chosen by its direction and none is left out for its size. The paper reports 98 % of the
codes in use with N and 1.5 % without. That N runs over the channels of one vector, and that the decoder reads
N of a code, is our reading.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

#: Latents that are looked up together: their distances to all codes are held in memory at once.
_LOOKED_UP_AT_ONCE = 8192


class Quantised(NamedTuple):
    """Latents on their codes; N is the z-score of a homogeneous codebook, the identity otherwise.

    Attributes:
        values: (B, C, d, h, w) float32, N of the nearest codes; gradients pass to the latents unchanged.
        codes: (B, d, h, w) indices of them.
        codebook: () ||N(sg z) - N(z_q)||², moves the codes.
        commitment: () ||N(sg z_q) - N(z)||², moves the encoder.
    """

    values: torch.Tensor
    codes: torch.Tensor
    codebook: torch.Tensor
    commitment: torch.Tensor


class Codebook(nn.Module):
    """``count`` codes of ``dim`` channels each.

    MONAI's EMAQuantizer knows no N, and holds distances and one-hot codes of all latents at once: 2 GB each
    for 8 x 32 x 32 x 32 latents of two volumes and 8192 codes.

    Args:
        count, dim: of the codes.
        homogeneous: look-up and losses on z-scored vectors, of codes that start from a normal distribution;
            otherwise Euclidean, of codes that start uniform in +-1/count (the release's).
    """

    def __init__(self, count: int, dim: int, homogeneous: bool = True) -> None:
        super().__init__()
        self.homogeneous = homogeneous
        self.embedding = nn.Embedding(count, dim)
        if not homogeneous:
            nn.init.uniform_(self.embedding.weight, -1 / count, 1 / count)

    def normalised(self, vectors: torch.Tensor) -> torch.Tensor:
        """N of (B, C, ...)."""
        return normalise_vectors(vectors) if self.homogeneous else vectors

    def forward(self, latents: torch.Tensor) -> Quantised:
        """(B, C, d, h, w) -> their codes; computed in float32 whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            normalised = self.normalised(latents.float())
            codes = self.nearest(normalised)
            chosen = functional.embedding(codes, self.embedding.weight.float()).movedim(-1, 1)
            quantised = self.normalised(chosen)
            return Quantised(
                normalised + (quantised - normalised).detach(),
                codes,
                functional.mse_loss(quantised, normalised.detach()),
                functional.mse_loss(normalised, quantised.detach()),
            )

    @torch.no_grad()
    def nearest(self, normalised: torch.Tensor) -> torch.Tensor:
        """(B, C, d, h, w), N of latents -> (B, d, h, w) indices of the nearest N of a code."""
        table = self.normalised(self.embedding.weight.float())
        sizes = table.square().sum(1)
        vectors = normalised.movedim(1, -1)
        parts = vectors.flatten(0, -2).split(_LOOKED_UP_AT_ONCE)
        found = [
            (part.square().sum(1, keepdim=True) + sizes - 2 * (part @ table.T)).argmin(1) for part in parts
        ]
        return torch.cat(found).unflatten(0, vectors.shape[:-1])


def normalise_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """N: (B, C, ...) -> each vector of C channels with mean 0 and variance 1 (1e-5 added)."""
    return functional.layer_norm(vectors.movedim(1, -1), vectors.shape[1:2]).movedim(-1, 1)


def codebook_usage(codes: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
    """How many of ``count`` codes are in use.

    Args:
        codes: indices, any shape.
        count: codes there are.

    Returns:
        "perplexity", exp of the entropy of their frequencies, 1 (one code alone) to ``count`` (all alike);
        "codes_used", the share of the codes that occur, 0 to 1. Both ().
    """
    share = torch.bincount(codes.flatten(), minlength=count).float() / codes.numel()
    entropy = -torch.special.xlogy(share, share).sum()
    return {"perplexity": entropy.exp(), "codes_used": (share > 0).float().mean()}
