"""CTPA volumes for the codecs: choice of the training volumes, slices and crops."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.data.cases import case_rows, read_case
from xray2ctpa_core.data.index import read_index
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.hu import normalise_hu

#: Names of training splits; "" because a data set without splits is used as a whole.
TRAINING = ("", "train", "training")


@dataclass(frozen=True)
class StudyVolumes:
    """A study whose volumes are on the networks' grid.

    Attributes:
        study: with its map and findings, where it has them.
        volumes: files, one or several of a scan.
        window: HU window to which they were clipped; None where it is not recorded.
    """

    study: Study
    volumes: tuple[Path, ...]
    window: tuple[float, ...] | None


def study_volumes(studies: Path, splits: Sequence[str] = (), patients: int = 0) -> list[StudyVolumes]:
    """The studies that a codec can read, in order.

    Args:
        studies: folder that the step ctpa wrote, or a study index (.csv) whose volumes are on the grid.
        splits: splits to take; all where it is empty.
        patients: number of studies, from the first; 0 for all.

    Raises:
        InputError: no study of these splits; or as in the readers.
    """
    studies = Path(studies)
    found = _indexed(studies) if studies.suffix.lower() == ".csv" else _preprocessed(studies)
    chosen = [entry for entry in found if not splits or (entry.study.split or "") in splits]
    if not chosen:
        raise InputError(f"Expected studies of the splits {', '.join(splits)} in {studies}, got none.")
    return chosen[: patients or None]


def training_volumes(studies: Path, patients: int) -> list[Path]:
    """The training files of a codec: those of the training studies where there are splits, else all;
    arguments and errors as in `study_volumes`."""
    return [file for entry in study_volumes(studies, TRAINING, patients) for file in entry.volumes]


def check_window(entry: StudyVolumes, window: Sequence[float]) -> None:
    """Raises InputError for an HU window other than the one to which a study was clipped."""
    if entry.window is not None and tuple(window) != tuple(entry.window):
        clipped = json.dumps(list(entry.window), separators=(",", ":"))
        raise ConfigError(
            f"Expected hu_window={clipped}, to which study {entry.study.id} was clipped, got {list(window)}.",
            f"Set hu_window={clipped}.",
        )


def _indexed(index: Path) -> list[StudyVolumes]:
    studies = [study for study in read_index(index) if study.volume is not None]
    return [StudyVolumes(study, (study.volume,), None) for study in studies if study.volume is not None]


def _preprocessed(folder: Path) -> list[StudyVolumes]:
    found = []
    for row in case_rows(folder):
        record = read_case(folder / row["folder"])
        label = int(row["label"]) if row["label"] else None
        study = Study(
            row["id"],
            row["patient"],
            label=label,
            split=row["split"] or None,
            where=record["source"]["where"],
            map=folder / row["folder"] / record["map"] if record.get("map") else None,
        )
        files = tuple(folder / row["folder"] / name for name in record["volumes"])
        found.append(StudyVolumes(study, files, tuple(record["settings"]["window"])))
    return found


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
    """Random crops: an item is {"volume": (1, *crop) float32 in [-1, 1]}, at a position drawn from its seed.

    Args:
        files: volumes, read when an item is requested.
        window: HU window.
        crop: (D, H, W) voxels.

    Raises:
        ConfigError: when an item is requested, for a volume smaller than the crop.
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
