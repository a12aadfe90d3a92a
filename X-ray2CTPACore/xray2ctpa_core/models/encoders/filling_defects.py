"""A 2D encoder of CT slices without weights: dark areas inside enhanced vessels."""

import itertools

import torch
from torch import nn
from torch.nn import functional

#: Sides of the closing in pixels; grey values from which a vessel counts as enhanced; depths of a defect.
#: Both are in units of half the window's width (450 HU for CMKD's window of -100 to 900).
SIDES, ENHANCED, DARKER = (5, 9), (-0.45, -0.2), (0.18, 0.33)
#: Grey values that divide the window into the bins of a histogram.
EDGES = (-0.98, -0.85, -0.7, -0.5, -0.25, 0.0, 0.4)
_SCALE = 1000.0


class FillingDefects(nn.Module):
    """(B, 1, H, W) in [-1, 1] -> (B, FEATURES): a black top-hat (closing minus image; Serra, 1982) summed
    over enhanced places, and a histogram, each as log(1 + 1000 share)."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Shares of the slice's area."""
        found = []
        for side in SIDES:
            reach = side // 2
            wide = functional.max_pool2d(slices, side, 1, reach)
            closed = -functional.max_pool2d(-wide, side, 1, reach)
            darker = closed - slices
            for enhanced in ENHANCED:
                vessel = closed > enhanced
                found += [((darker > step) & vessel).float().mean((1, 2, 3)) for step in DARKER]
                found.append((darker * vessel).mean((1, 2, 3)))
        edges = [float("-inf"), *EDGES, float("inf")]
        for low, high in itertools.pairwise(edges):
            found.append(((slices >= low) & (slices < high)).float().mean((1, 2, 3)))
        return torch.log1p(_SCALE * torch.stack(found, 1))


FEATURES = len(SIDES) * len(ENHANCED) * (len(DARKER) + 1) + len(EDGES) + 1
