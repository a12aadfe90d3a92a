"""Latents of a cohort with their radiographs, for the encoder, the classifier and the denoiser."""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from xray2ctpa_core.data.virtual_radiographs import FILMS_FILE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.simulation.build import CLOTS_FILE, MAP_FILE, SIGN_BITS_FILE, read_record
from xray2ctpa_core.simulation.sign_map import sign_masks
from xray2ctpa_core.simulation.signs import SIGNS

#: Kinds of evidence of PE that a virtual patient's masks show, in order.
EVIDENCE = ("clot", *(sign.name for sign in SIGNS))
LATENTS_FILE, STATISTICS_FILE, INDEX_FILE = "latents.npy", "statistics.json", "index.json"


def read_statistics(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel, each (1, C, 1, 1, 1)."""
    values = json.loads((Path(folder) / STATISTICS_FILE).read_text(encoding="utf-8"))
    mean, std = (torch.tensor(values[key]).reshape(1, -1, 1, 1, 1) for key in ("mean", "std"))
    return mean, std


def read_channel_weights(folder: Path) -> torch.Tensor:
    """Loss weight of each latent channel, (1, C, 1, 1, 1), mean 1: how much the decoded slice depends on it.

    Standardised channels all have the variance 1, but one carries the anatomy and another faint texture.
    """
    gains = torch.tensor(json.loads((Path(folder) / STATISTICS_FILE).read_text(encoding="utf-8"))["gain"])
    return (gains / gains.mean()).reshape(1, -1, 1, 1, 1)


def read_evidence(folder: Path, grid: tuple[int, ...]) -> np.ndarray:
    """(len(EVIDENCE), D, H, W) bool on the latent grid: whether any voxel of the cell shows it.

    Raises:
        InputError: a patient of an earlier version's cohort, without the map of the signs.
    """
    if not (folder / SIGN_BITS_FILE).is_file():
        raise InputError(
            f"Expected {SIGN_BITS_FILE} in {folder}, found none.", "Make the cohort anew: make_cohort.py."
        )
    clots = read_volume(folder / CLOTS_FILE).array > 0
    masks = np.concatenate([clots[None], sign_masks(read_volume(folder / SIGN_BITS_FILE).array)])
    cells = functional.adaptive_max_pool3d(torch.from_numpy(masks.astype(np.float32)), tuple(grid))
    return cells.numpy() > 0


class LatentDataset(Dataset[dict[str, torch.Tensor]]):
    """Items: "latents" (C, D, H, W) standardised, "image" (1, P, P) in [0, 1], "label" (), "signs" (S,),
    "sign_probability" (), of PE given the signs; where every patient has one, "template_map" (3, *MAP_GRID);
    on request "evidence" (len(EVIDENCE), D, H, W), 1 where a latent cell shows it.

    Args:
        folder: what Training/encode_latents.py wrote for one cohort.
        statistics: folder whose statistics standardise (the training cohort's).
        augmented: whether "image" is one of the patient's augmented films, chosen by the seed in the item's
            key, or the film as it is.
        evidence: whether items hold it.
        first: only the first so many patients; None for all.
    """

    def __init__(
        self,
        folder: Path,
        statistics: Path,
        augmented: bool,
        evidence: bool = False,
        first: int | None = None,
    ) -> None:
        folder = Path(folder)
        if not (folder / INDEX_FILE).is_file():
            raise InputError(
                f"Expected encoded latents in {folder}, found none.", "Run Training/encode_latents.py."
            )
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        self.patients = [Path(patient) for patient in index[:first]]
        self._latents = np.load(folder / LATENTS_FILE, mmap_mode="r")
        self._mean, self._std = read_statistics(statistics)
        self._films = np.load(folder / FILMS_FILE, mmap_mode="r")
        records = [read_record(patient) for patient in self.patients]
        self.labels = [float(record["pe"]) for record in records]
        self._sign_probabilities = [float(record["sign_probability"]) for record in records]
        self._signs = [[float(record["signs"][sign.name]) for sign in SIGNS] for record in records]
        self.maps: np.ndarray | None = None
        if all((patient / MAP_FILE).is_file() for patient in self.patients):
            self.maps = np.stack([np.load(patient / MAP_FILE) for patient in self.patients])
        grid = self._latents.shape[2:]
        self._evidence = [np.packbits(read_evidence(p, grid), 0) for p in self.patients if evidence]
        self._augmented = augmented

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        case, seed = item
        latents = torch.from_numpy(np.array(self._latents[case], dtype=np.float32))
        variant = 1 + seed % (self._films.shape[1] - 1) if self._augmented else 0
        entry = {
            "latents": (latents - self._mean[0]) / self._std[0],
            "image": torch.from_numpy(np.array(self._films[case, variant], dtype=np.float32))[None],
            "label": torch.tensor(self.labels[case]),
            "signs": torch.tensor(self._signs[case]),
            "sign_probability": torch.tensor(self._sign_probabilities[case]),
        }
        if self._evidence:
            bits = np.unpackbits(self._evidence[case], 0, count=len(EVIDENCE))
            entry["evidence"] = torch.from_numpy(bits).float()
        if self.maps is not None:
            entry["template_map"] = torch.from_numpy(self.maps[case]).float()
        return entry
