"""Maps of what a network has seen where, summed up."""

import torch


def strongest_places(maps: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
    """(B, M, ...) -> (B, M, len(counts)), the means of each map's so many strongest places.

    Args:
        maps: M of a case, at N places each.
        counts: in rising order; a map of fewer places is taken whole.
    """
    places = maps.flatten(2)
    places = places.topk(min(counts[-1], places.shape[2]), 2).values
    return torch.stack([places[..., :count].mean(2) for count in counts], 2)
