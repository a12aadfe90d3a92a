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
#: Bins, from and to, whose share is also compared with that of all enhanced tissue, from _FROM: clots (-25 to
#: 50 HU and 50 to 150 HU) and strong enhancement. The ratios hardly change with the size of heart and body.
RATIOS, _FROM = ((2, 3), (3, 4), (5, 8)), 4
_SCALE = 1000.0


class FillingDefects(nn.Module):
    """(B, 1, H, W) in [-1, 1] -> (B, FEATURES): a black top-hat (closing minus image; Serra, 1982) summed
    over enhanced places, and a histogram, each as log(1 + 1000 share), and logarithms of ratios of bins."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Shares of the slice's area."""
        found = []
        for side in SIDES:
            closed = -_largest(-_largest(slices, side), side)
            darker = closed - slices
            for enhanced in ENHANCED:
                vessel = closed > enhanced
                found += [((darker > step) & vessel).float().mean((1, 2, 3)) for step in DARKER]
                found.append((darker * vessel).mean((1, 2, 3)))
        edges = [float("-inf"), *EDGES, float("inf")]
        bins = [
            ((slices >= low) & (slices < high)).float().mean((1, 2, 3))
            for low, high in itertools.pairwise(edges)
        ]
        logarithms = torch.log1p(_SCALE * torch.stack([*found, *bins], 1))
        enhanced_share = torch.log1p(_SCALE * sum(bins[_FROM:]))  # type: ignore[call-overload]
        ratios = [torch.log1p(_SCALE * sum(bins[a:b])) - enhanced_share for a, b in RATIOS]  # type: ignore[call-overload]
        return torch.cat([logarithms, torch.stack(ratios, 1)], 1)


def _largest(x: torch.Tensor, side: int) -> torch.Tensor:
    """The largest value in a square around each pixel, rows first."""
    rows = functional.max_pool2d(x, (side, 1), 1, (side // 2, 0))
    return functional.max_pool2d(rows, (1, side), 1, (0, side // 2))


FEATURES = len(SIDES) * len(ENHANCED) * (len(DARKER) + 1) + len(EDGES) + 1 + len(RATIOS)
