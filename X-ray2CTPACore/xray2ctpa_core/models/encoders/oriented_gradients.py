"""Oriented gradients of a radiograph, normalised locally (Dalal and Triggs, CVPR 2005): local edges,
independent of exposure. A linear read-out of them predicts the anatomy of new people better than one of grey
values."""

import math

import torch
from torch.nn import functional

#: Orientations, cells along an edge, and pixels along an edge of the resampled radiograph.
ORIENTATIONS, CELLS, PIXELS = 8, 12, 48
#: Regularisation of the normalisation: gradients below this value are suppressed.
_FAINT = 0.02

FEATURES = ORIENTATIONS * CELLS**2


def oriented_gradients(image: torch.Tensor) -> torch.Tensor:
    """(B, 1, P, P) in [0, 1] -> (B, FEATURES) float32."""
    small = functional.adaptive_avg_pool2d(image.float(), PIXELS)
    across = small[..., 1:-1, 2:] - small[..., 1:-1, :-2]
    down = small[..., 2:, 1:-1] - small[..., :-2, 1:-1]
    angles = [number * 2 * math.pi / ORIENTATIONS for number in range(ORIENTATIONS)]
    along = [(across * math.cos(angle) + down * math.sin(angle)).clamp(min=0) for angle in angles]
    cells = functional.adaptive_avg_pool2d(torch.cat(along, 1), CELLS)
    strength = (cells.square().sum(1, keepdim=True) + _FAINT**2).sqrt()
    return (cells / strength).flatten(1)
