"""Features of a radiograph for linear read-outs: oriented gradients, normalised locally (Dalal and Triggs,
CVPR 2005), which are edges independent of exposure, and coarse greys. A read-out of both predicts the anatomy
of new people better than one of either (docs/experiments/many-people.md)."""

import math

import torch
from torch.nn import functional

#: Orientations, cells along an edge, and pixels along an edge of the resampled radiograph.
ORIENTATIONS, CELLS, PIXELS = 8, 12, 48
#: Regularisation of the normalisation: gradients below this value are suppressed.
_FAINT = 0.02

#: Greys along an edge, and their weight beside the gradients.
GREYS, GREY_WEIGHT = 24, 2.0

FEATURES = ORIENTATIONS * CELLS**2 + GREYS**2


def radiograph_features(image: torch.Tensor) -> torch.Tensor:
    """(B, 1, P, P) in [0, 1] -> (B, FEATURES) float32."""
    greys = functional.adaptive_avg_pool2d(image.float(), GREYS).flatten(1)
    return torch.cat([oriented_gradients(image), GREY_WEIGHT * greys], 1)


def by_cell(features: torch.Tensor) -> torch.Tensor:
    """(B, FEATURES), or products with weights -> (B, 1, CELLS, CELLS), summed in each cell."""
    gradients, greys = features.split((ORIENTATIONS * CELLS**2, GREYS**2), 1)
    gradients = gradients.unflatten(1, (ORIENTATIONS, CELLS, CELLS)).sum(1, keepdim=True)
    greys = greys.unflatten(1, (1, GREYS, GREYS))
    return gradients + functional.avg_pool2d(greys, GREYS // CELLS, divisor_override=1)


def oriented_gradients(image: torch.Tensor) -> torch.Tensor:
    """(B, 1, P, P) in [0, 1] -> (B, ORIENTATIONS * CELLS**2) float32."""
    small = functional.adaptive_avg_pool2d(image.float(), PIXELS)
    across = small[..., 1:-1, 2:] - small[..., 1:-1, :-2]
    down = small[..., 2:, 1:-1] - small[..., :-2, 1:-1]
    angles = [number * 2 * math.pi / ORIENTATIONS for number in range(ORIENTATIONS)]
    along = [(across * math.cos(angle) + down * math.sin(angle)).clamp(min=0) for angle in angles]
    cells = functional.adaptive_avg_pool2d(torch.cat(along, 1), CELLS)
    strength = (cells.square().sum(1, keepdim=True) + _FAINT**2).sqrt()
    return (cells / strength).flatten(1)
