"""CTPA volumes, for the codecs: which to learn from, their slices, and crops of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.data.cases import TABLE_FILE, case_rows, read_case
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.simulation.build import CTPA_FILE, patient_folders


def training_volumes(layout: str, cohort: Path, patients: int) -> list[Path]:
    """The files that a codec learns from.

    Args:
        layout: of the folder ``cohort``: "cohort" (virtual patients) or "preprocessed" (cases of
            preprocess_ctpa.py; of a data set with splits the training cases).
        cohort: the folder.
        patients: how many, from the first; 0 for all.

    Raises:
        ConfigError: another layout.
        InputError: no cases to train on.
    """
    if layout == "cohort":
        return [folder / CTPA_FILE for folder in patient_folders(cohort)[: patients or None]]
    if layout != "preprocessed":
        raise ConfigError(f"Expected the layout cohort or preprocessed, got {layout!r}.")
    rows = [row for row in case_rows(cohort) if row["split"] in ("", "train", "training")]
    folders = [cohort / row["folder"] for row in rows[: patients or None]]
    if not folders:
        raise InputError(f"Expected training cases in {cohort / TABLE_FILE}, got none of that split.")
    return [folder / name for folder in folders for name in read_case(folder)["volumes"]]


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


class CropDataset(Dataset[dict[str, torch.Tensor]]):
    """Crops at random places: an item is {"volume": (1, *crop) float32 in [-1, 1]}; its seed says where.

    Args:
        files: volumes; they are read when asked for.
        window: HU window.
        crop: (D, H, W) voxels.

    Raises:
        ConfigError: when an item is asked for, a volume that is smaller than the crop.
    """

    def __init__(self, files: Sequence[Path], window: Sequence[float], crop: Sequence[int]) -> None:
        self._files, self._window, self._crop = list(files), window, tuple(crop)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        array = read_volume(self._files[place]).array
        room = [size - part for size, part in zip(array.shape, self._crop, strict=True)]
        if min(room) < 0:
            raise ConfigError(
                f"Expected volumes of at least crop={self._crop} voxels, got {array.shape} in "
                f"{self._files[place]}.",
                "Set a smaller crop.",
            )
        generator = torch.Generator().manual_seed(seed)
        starts = [int(torch.randint(free + 1, (), generator=generator)) for free in room]
        box = tuple(slice(start, start + part) for start, part in zip(starts, self._crop, strict=True))
        return {"volume": normalise_hu(torch.from_numpy(array[box].astype(np.float32)), self._window)[None]}
