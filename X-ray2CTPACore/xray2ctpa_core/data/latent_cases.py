"""Latents of preprocessed or generated CTs (Training/encode_latents.py, generate_latents.py), with labels and
radiographs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.data.cases import TABLE_FILE, case_rows
from xray2ctpa_core.data.cxr_cases import CXR_FILE
from xray2ctpa_core.data.latents import INDEX_FILE, LATENTS_FILE, read_statistics
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, min_max_scaling
from xray2ctpa_core.errors import ConfigError, InputError

_LABELS = {"0": 0, "1": 1, "": None}
_KEYS = ("volume", "id", "patient", "label", "split")


@dataclass(frozen=True)
class LatentCase:
    """One volume of an index; several of one scan share id, patient, label and split.

    Attributes:
        row: of latents.npy.
        volume: NIfTI of the volume that was encoded, or of the decoded one.
        id, patient: of the study.
        label: 1 with PE, 0 without, None unknown.
        split: as in the data set, "" where it has none.
        where: file and entry, for messages.
    """

    row: int
    volume: Path
    id: str
    patient: str
    label: int | None
    split: str
    where: str


@dataclass(frozen=True)
class ScalingConfig:
    """How latents are scaled; a stage's configuration extends it.

    Attributes:
        scaling: "standardised" (by the latents' statistics, each channel to mean 0 and deviation 1) or
            "min-max" (the papers').
        latent_low, latent_high, latent_factor: of "min-max" (diffusion.latent_scaling.min_max_scaling); the
            defaults are the release's for CTPA.
    """

    scaling: str = "standardised"
    latent_low: float = -12.911299
    latent_high: float = 9.596558
    latent_factor: float = 0.18215


def latent_scaling(config: ScalingConfig, folder: Path) -> LatentScaling:
    """The scaling that ``config`` asks for, of the latents in ``folder``."""
    mean, std = read_statistics(folder)
    if config.scaling == "standardised":
        return LatentScaling(tuple(mean.flatten().tolist()), tuple(std.flatten().tolist()))
    if config.scaling == "min-max":
        return min_max_scaling(config.latent_low, config.latent_high, config.latent_factor, mean.numel())
    raise ConfigError(f"Expected a scaling out of standardised, min-max, got {config.scaling!r}.")


def read_latent_cases(folder: Path, labelled: bool = False) -> list[LatentCase]:
    """The volumes in ``folder``'s index, in order.

    Args:
        folder: with index.json and latents.npy.
        labelled: whether each must have a label.

    Raises:
        InputError: no index, one of virtual patients, an entry without a key, a label that is not 0 or 1, or
            not one row of latents an entry. It names file and entry.
    """
    folder = Path(folder)
    index = folder / INDEX_FILE
    if not index.is_file() or not (folder / LATENTS_FILE).is_file():
        raise InputError(
            f"Expected {INDEX_FILE} and {LATENTS_FILE} in {folder}, found not both.",
            "Run Training/encode_latents.py with layout=preprocessed.",
        )
    entries = json.loads(index.read_text(encoding="utf-8"))
    cases = []
    for row, entry in enumerate(entries):
        where = f"{index}, entry {row + 1}"
        if not isinstance(entry, dict) or any(key not in entry for key in _KEYS):
            raise InputError(
                f"Expected the keys {', '.join(_KEYS)} in {where}, got {entry}.",
                "Run Training/encode_latents.py with layout=preprocessed.",
            )
        if entry["label"] not in _LABELS or (labelled and entry["label"] == ""):
            raise InputError(f"Expected a label of 0 or 1, got {entry['label']!r} in {where}.")
        cases.append(
            LatentCase(
                row,
                Path(entry["volume"]),
                str(entry["id"]),
                str(entry["patient"]),
                _LABELS[entry["label"]],
                entry["split"],
                where,
            )
        )
    rows = len(np.load(folder / LATENTS_FILE, mmap_mode="r"))
    if rows != len(cases) or not cases:
        raise InputError(
            f"Expected one row of {folder / LATENTS_FILE} for each of {len(cases)} entries of "
            f"{index}, got {rows}.",
            "A volume is missing: encode the latents anew.",
        )
    return cases


def first_volumes(cases: Sequence[LatentCase]) -> list[LatentCase]:
    """The first volume of each study, in order: what one volume a study is compared by."""
    first: dict[str, LatentCase] = {}
    for case in cases:
        first.setdefault(case.id, case)
    return list(first.values())


def film_files(folder: Path, cases: Sequence[LatentCase]) -> list[Path]:
    """The radiograph of each case among those that preprocess_cxr.py wrote: of the study of the same id, else
    the patient's only one.

    Raises:
        InputError: a case without radiograph, or several of its patient; names files and row.
    """
    by_id: dict[str, Path] = {}
    by_patient: dict[str, list[Path]] = {}
    for row in case_rows(folder):
        path = Path(folder) / row["folder"] / CXR_FILE
        by_id[row["id"]] = path
        by_patient.setdefault(row["patient"], []).append(path)
    files = []
    for case in cases:
        of_patient = by_patient.get(case.patient, [])
        if case.id not in by_id and len(of_patient) != 1:
            raise InputError(
                f"Expected one radiograph of study {case.id} or patient {case.patient} ({case.where}) in "
                f"{Path(folder) / TABLE_FILE}, got {len(of_patient) or 'none'}.",
                "Preprocess the missing radiograph, or leave the study out of the latents.",
            )
        files.append(by_id.get(case.id) or of_patient[0])
    return files


def read_film(path: Path, where: str) -> torch.Tensor:
    """(1, P, P) float32 as preprocess_cxr.py wrote it.

    Raises:
        InputError: missing, not square, or not finite; names the file and ``where``.
    """
    if not path.is_file():
        raise InputError(f"Expected the radiograph {path} of {where}, got no such file.")
    film = torch.from_numpy(np.load(path).astype(np.float32))
    if film.ndim != 2 or film.shape[0] != film.shape[1] or not film.isfinite().all():
        raise InputError(
            f"Expected a square film of finite values in {path} ({where}), got shape {tuple(film.shape)}"
            f"{'' if film.isfinite().all() else ' with NaN or infinite values'}."
        )
    return film[None]


class LatentCases(Dataset[dict[str, torch.Tensor]]):
    """Items: "latents" (C, D, H, W) scaled; "seed" (), what this draw of the case is random by; "label" ()
    where all cases have one; "image" (1, P, P) where ``films`` is given.

    Args:
        folder: of the latents.
        cases: those to take, of this folder.
        scaling: of the latents.
        films: folder of preprocess_cxr.py's cases, or None.
        flip: probability that latents and radiograph are mirrored left to right (X-ray2CTPA, section 4.1:
            0.5; the autoencoder's slices commute with it but for rounding).

    Raises:
        InputError: no cases, or one without its radiograph.
    """

    def __init__(
        self,
        folder: Path,
        cases: Sequence[LatentCase],
        scaling: LatentScaling,
        films: Path | None = None,
        flip: float = 0.0,
    ) -> None:
        if not cases:
            raise InputError(f"Expected at least one case of {folder}, got none.", "Is its split empty?")
        self.cases = list(cases)
        self._file = Path(folder) / LATENTS_FILE
        self._latents = np.load(self._file, mmap_mode="r")
        self._scaling, self._flip = scaling, flip
        self._films = None if films is None else film_files(films, cases)
        self._labelled = all(case.label is not None for case in self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        case = self.cases[place]
        latents = torch.from_numpy(self._latents[case.row].astype(np.float32))
        if not latents.isfinite().all():
            bad = int((~latents.isfinite()).sum())
            raise InputError(
                f"Expected finite latents, got {bad} NaN or infinite in row {case.row} of {self._file} "
                f"({case.where}).",
                "Encode the latents anew, with less reduced precision if it happens again.",
            )
        entry = {"latents": self._scaling.apply(latents[None])[0], "seed": torch.tensor(seed)}
        if self._labelled:
            entry["label"] = torch.tensor(float(case.label or 0))
        if self._films is not None:
            entry["image"] = read_film(self._films[place], case.where)
        if self._flip and float(torch.rand((), generator=torch.Generator().manual_seed(seed))) < self._flip:
            mirrored = {name: entry[name].flip(-1) for name in ("latents", "image") if name in entry}
            entry = entry | mirrored
        return entry
