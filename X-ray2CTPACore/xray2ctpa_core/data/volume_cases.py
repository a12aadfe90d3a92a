"""Volumes and films with labels, of the cases that an index of latents lists."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.data.latent_cases import LatentCase, film_files, read_film
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.hu import normalise_hu


class VolumeCases(Dataset[dict[str, torch.Tensor]]):
    """Items: "volume" (1, D, H, W) in [-1, 1], "label" (), "seed" ().

    Args:
        cases: with labels; their volumes are read when asked for.
        window: HU window (lower, upper).

    Raises:
        InputError: no cases, one without label, or a missing volume; names file and entry.
    """

    def __init__(self, cases: Sequence[LatentCase], window: Sequence[float]) -> None:
        self.cases, self._window = checked_cases(cases), window
        for case in self.cases:
            if not case.volume.is_file():
                raise InputError(f"Expected the volume {case.volume} of {case.where}, got no such file.")

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        case = self.cases[place]
        hu = read_volume(case.volume).array.astype(np.float32)
        if not np.isfinite(hu).all():
            raise InputError(
                f"Expected finite HU, got NaN or infinite voxels in {case.volume} of {case.where}."
            )
        volume = normalise_hu(torch.from_numpy(hu), self._window)[None]
        return {"volume": volume, "label": torch.tensor(float(case.label or 0)), "seed": torch.tensor(seed)}


class FilmCases(Dataset[dict[str, torch.Tensor]]):
    """Items: "image" (1, P, P), "label" (), "seed" (); one a case, though several volumes of it be listed.

    Args:
        cases: with labels.
        films: folder of preprocess_cxr.py's cases.
        flip: probability that a film is mirrored.

    Raises:
        InputError: no cases, or one without label or film; names file and entry.
    """

    def __init__(self, cases: Sequence[LatentCase], films: Path, flip: float = 0.0) -> None:
        self.cases = checked_cases(list({case.id: case for case in cases}.values()))
        self._films, self._flip = film_files(films, self.cases), flip

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        case = self.cases[place]
        image = read_film(self._films[place], case.where)
        if self._flip and float(torch.rand((), generator=torch.Generator().manual_seed(seed))) < self._flip:
            image = image.flip(-1)
        return {"image": image, "label": torch.tensor(float(case.label or 0)), "seed": torch.tensor(seed)}


def checked_cases(cases: Sequence[LatentCase]) -> list[LatentCase]:
    """The cases as a list; raises InputError where there are none, or one has no label."""
    if not cases:
        raise InputError("Expected at least one case, got none.", "Is its split empty?")
    for case in cases:
        if case.label is None:
            raise InputError(f"Expected a label of 0 or 1, got none in {case.where}.")
    return list(cases)
