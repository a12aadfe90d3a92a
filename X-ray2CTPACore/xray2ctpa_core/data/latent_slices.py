"""Slices of volumes with their latents, to train decoders of slices."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.data.latent_cases import LatentCase, read_latents
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.hu import normalise_hu


class LatentSlices(Dataset[dict[str, torch.Tensor]]):
    """Items: unscaled "latents" (S, C, h, w) of the autoencoder and "slice" (S, 1, H, W) in [-1, 1]: slices
    of one volume, drawn by the item's seed.

    Args:
        cases: their volumes are read when an item is requested.
        window: HU window (lower, upper) to which the latents' volumes were clipped.
        slices: S, at least 1; all slices of a volume that has fewer.

    Raises:
        ConfigError: slices below 1.
        InputError: no cases, or a missing volume; names file and entry.
    """

    def __init__(self, cases: Sequence[LatentCase], window: Sequence[float], slices: int) -> None:
        if slices < 1:
            raise ConfigError(f"Expected at least 1 slice of a volume, got {slices}.")
        if not cases:
            raise InputError("Expected at least one case, got none.", "Is its split empty?")
        for case in cases:
            if not case.volume.is_file():
                raise InputError(f"Expected the volume {case.volume} of {case.where}, got no such file.")
        self.cases = list(cases)
        self._window, self._slices = window, slices

    def __len__(self) -> int:
        return len(self.cases)

    def where(self, place: int) -> str:
        """Description of the case at ``place``, for messages."""
        return f"study {self.cases[place].id} ({self.cases[place].where})"

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        case = self.cases[place]
        hu = read_volume(case.volume).array
        latents = read_latents(case)
        if len(hu) != latents.shape[1]:
            raise InputError(
                f"Expected {latents.shape[1]} slices in {case.volume}, as many as its latents have "
                f"({case.where}), got {len(hu)}.",
                "Encode the latents anew.",
            )
        drawn = torch.randperm(len(hu), generator=torch.Generator().manual_seed(seed))[: self._slices].numpy()
        return {
            "latents": torch.from_numpy(latents[:, drawn].astype(np.float32)).transpose(0, 1),
            "slice": normalise_hu(torch.from_numpy(hu[drawn].astype(np.float32)), self._window)[:, None],
        }
