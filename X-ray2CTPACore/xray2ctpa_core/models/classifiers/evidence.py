"""Summaries of evidence maps."""

import torch


def strongest_places(maps: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
    """(B, M, ...) -> (B, M, len(counts)): for each of ``counts`` the mean of the map's n strongest places.

    Args:
        maps: M maps of each case.
        counts: numbers n in rising order; of a map with fewer places all are used.
    """
    places = maps.flatten(2)
    places = places.topk(min(counts[-1], places.shape[2]), 2).values
    return torch.stack([places[..., :count].mean(2) for count in counts], 2)
