"""Vector quantisation by a learned codebook, with XctDiff's homogeneous distances or with Euclidean ones.

van den Oord et al., NeurIPS 2017, eq. 1 to 3 (nearest code, straight-through estimator, the two losses).
Homogeneous (XctDiff, arXiv 2406.04679): distances of z-scored vectors. The z-score N brings every vector to
mean 0 and variance 1, so that only a code's direction matters and no code is left unused because of its
length. The paper reports 98 % of the codes in use with N and 1.5 % without. The paper does not say over what
N runs nor what the decoder reads; here N runs over the channels of one vector, and the decoder reads N of a
code.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

#: Latents that are looked up together: memory holds their distances to all codes.
_LOOKED_UP_AT_ONCE = 8192


class Quantised(NamedTuple):
    """Quantised latents; N is the z-score for a homogeneous codebook, else the identity.

    Attributes:
        values: (B, C, d, h, w) float32, N of the nearest codes; gradients pass to the latents unchanged.
        codes: (B, d, h, w) indices of the nearest codes.
        codebook: () ||N(sg z) - N(z_q)||², the loss of the codes.
        commitment: () ||N(sg z_q) - N(z)||², the loss of the encoder.
    """

    values: torch.Tensor
    codes: torch.Tensor
    codebook: torch.Tensor
    commitment: torch.Tensor


class Codebook(nn.Module):
    """``count`` codes of ``dim`` channels each.

    MONAI's EMAQuantizer has no homogeneous distances, and holds the distances and one-hot codes of all
    latents in memory: 2 GB each for 8 x 32 x 32 x 32 latents of two volumes and 8192 codes.

    Args:
        count: number of codes.
        dim: channels of a code.
        homogeneous: look-up and losses on z-scored vectors; codes start from a normal distribution. Otherwise
            Euclidean distances; codes start from a uniform distribution in +-1/count (the release's).
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
        """(B, C, d, h, w) latents -> their codes; computed in float32 also under autocast."""
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
        """(B, C, d, h, w), N of latents -> (B, d, h, w) index of the code whose N is nearest."""
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
    """How many of the codes are in use.

    Args:
        codes: indices, any shape.
        count: number of codes in the codebook.

    Returns:
        "perplexity" (): exp of the entropy of the codes' frequencies, from 1 (a single code) to ``count``
        (all equally often); "codes_used" (): the share of the codes that occur, 0 to 1.
    """
    share = torch.bincount(codes.flatten(), minlength=count).float() / codes.numel()
    entropy = -torch.special.xlogy(share, share).sum()
    return {"perplexity": entropy.exp(), "codes_used": (share > 0).float().mean()}
