"""CTPA slices, for the autoencoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.networks.hu import normalise_hu


class SliceDataset(Dataset[dict[str, torch.Tensor]]):
    """Axial slices: an item is {"slice": (1, H, W) float32 in [-1, 1]}.

    Args:
        files: volumes of one shape; they are held in memory as int16.
        window: HU window.
    """

    def __init__(self, files: list[Path], window: Sequence[float]) -> None:
        self._volumes = np.stack([read_volume(file).array.astype(np.int16) for file in files])
        self._window = window

    def __len__(self) -> int:
        return self._volumes.shape[0] * self._volumes.shape[1]

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        patient, k = divmod(item[0], self._volumes.shape[1])
        return {"slice": normalise_hu(torch.from_numpy(self._volumes[patient, k]), self._window)[None]}
