"""Volumes with label maps, in the form of the Medical Segmentation Decathlon or of BCV (BTCV)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import read_volume

DATASET_FILE = "dataset.json"
#: Folders of BCV's volumes and labels, where its archive puts them; img0001 and label0001 match.
BCV_PLACES, BCV_IMAGES, BCV_LABELS = ("", "Training", "RawData/Training"), "img", "label"
#: BCV's classes, by the number in its label maps.
BCV_CLASSES = (
    "background", "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach",
    "aorta", "inferior vena cava", "portal and splenic vein", "pancreas", "right adrenal gland",
    "left adrenal gland",
)  # fmt: skip


@dataclass(frozen=True)
class SegmentationCase:
    """A volume (HU) and its label map, on one grid.

    Attributes:
        name: the volume's file without suffix.
        volume, label: files.
        patient: whose volume it is; folds are by patient.
    """

    name: str
    volume: Path
    label: Path
    patient: str


def read_segmentation_cases(folder: Path, cases: int = 0) -> tuple[list[SegmentationCase], list[str]]:
    """The training cases of a folder, and the names of the classes, the background first.

    Args:
        folder: with dataset.json ("training": [{"image", "label"}], "labels": {"0": name, ...}; entries name
            the "patient" where one has several volumes), or BCV's, with img/ and label/.
        cases: how many, from the first; 0 for all.

    Raises:
        InputError: neither form, missing keys, or missing files.
    """
    path = Path(folder) / DATASET_FILE
    places = [Path(folder) / place for place in BCV_PLACES]
    of_bcv = next((place for place in places if (place / BCV_IMAGES).is_dir()), None)
    if of_bcv is not None and not path.is_file():
        return _bcv_cases(of_bcv)[: cases or None], list(BCV_CLASSES)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = [
            (Path(entry["image"]), Path(entry["label"]), entry.get("patient"))
            for entry in content["training"]
        ]
        classes = [str(content["labels"][str(number)]) for number in range(len(content["labels"]))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"Expected the training cases and labels of a segmentation data set in {path}, got "
            f"{type(error).__name__}: {error}.",
            "Name a folder in the form of the Medical Segmentation Decathlon, or BCV's with img and label.",
        ) from error
    found = [
        _case(Path(folder) / image, Path(folder) / label, patient)
        for image, label, patient in listed[: cases or None]
    ]
    missing = [str(file) for case in found for file in (case.volume, case.label) if not file.is_file()]
    if missing or not found:
        raise InputError(f"Expected the files that {path} lists, got no {missing[0] if missing else 'case'}.")
    return found, classes


def _bcv_cases(folder: Path) -> list[SegmentationCase]:
    """The cases of ``folder``/img and ``folder``/label; InputError for a volume without labels, or none."""
    images = sorted((folder / BCV_IMAGES).glob("*.nii*"))
    pairs = [(file, folder / BCV_LABELS / file.name.replace("img", "label", 1)) for file in images]
    missing = [str(label) for _, label in pairs if not label.is_file()]
    if missing or not pairs:
        raise InputError(
            f"Expected volumes with labels in {folder}, got no {missing[0] if missing else 'volume'}."
        )
    return [_case(image, label) for image, label in pairs]


def _case(image: Path, label: Path, patient: str | None = None) -> SegmentationCase:
    """A case, of a patient of its own where none is named."""
    name = image.name.split(".")[0]
    return SegmentationCase(name, image, label, name if patient is None else str(patient))


def read_segmentation_case(
    case: SegmentationCase, window: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Volume (1, D, H, W) float32, the HU window mapped to 0..1, and labels (1, D, H, W) int64.

    Raises:
        InputError: volume and labels are on different grids.
    """
    volume, label = read_volume(case.volume).array, read_volume(case.label).array
    if volume.shape != label.shape:
        raise InputError(f"Expected one grid of volume and label of {case.name}, got two.")
    unit = (np.clip(volume.astype(np.float32), window[0], window[1]) - window[0]) / (window[1] - window[0])
    return torch.from_numpy(unit)[None], torch.from_numpy(label.astype(np.int64))[None]


class SegmentationCrops(Dataset[dict[str, torch.Tensor]]):
    """Items: "volume" and "label" (1, *crop), at a position drawn from the seed. Half of the crops are
    centred on a labelled voxel; smaller volumes are padded with air.

    Args:
        cases: held in memory.
        window: HU window.
        crop: (D, H, W) voxels.
    """

    def __init__(
        self, cases: Sequence[SegmentationCase], window: Sequence[float], crop: Sequence[int]
    ) -> None:
        self._crop = tuple(crop)
        self._cases = [self._padded(*read_segmentation_case(case, window)) for case in cases]

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        volume, label = self._cases[place]
        rng = np.random.default_rng(seed)
        room = [size - part for size, part in zip(volume.shape[1:], self._crop, strict=True)]
        starts = [int(rng.integers(free + 1)) for free in room]
        labelled = label[0].nonzero()
        if len(labelled) and rng.random() < 0.5:
            centre = labelled[int(rng.integers(len(labelled)))].tolist()
            starts = [
                min(max(c - part // 2, 0), free)
                for c, part, free in zip(centre, self._crop, room, strict=True)
            ]
        box = (slice(None), *(slice(s, s + part) for s, part in zip(starts, self._crop, strict=True)))
        return {"volume": volume[box].clone(), "label": label[box].clone()}

    def _padded(self, volume: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lacking = [max(0, part - size) for size, part in zip(volume.shape[1:], self._crop, strict=True)]
        pads = [amount for free in reversed(lacking) for amount in (0, free)]
        return torch.nn.functional.pad(volume, pads), torch.nn.functional.pad(label, pads)
