"""Radiographs of two styles, real and computed, of different patients, for the style transfer."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.data.cases import case_rows
from xray2ctpa_core.data.cxr_cases import CXR_FILE
from xray2ctpa_core.data.latent_cases import read_encoder_input
from xray2ctpa_core.errors import InputError


def radiograph_cases(folder: Path) -> list[tuple[Path, str]]:
    """File and name of each radiograph that the step radiographs wrote; InputError where there are none."""
    return [(Path(folder) / row["folder"] / CXR_FILE, row["id"]) for row in case_rows(folder)]


def read_unit_radiograph(path: Path, where: str) -> torch.Tensor:
    """(1, P, P) float32 in [0, 1].

    Raises:
        InputError: as in read_encoder_input, or values beyond [0, 1], as standardised ones are.
    """
    image = read_encoder_input(path, where)
    if float(image.min()) < 0 or float(image.max()) > 1:
        raise InputError(
            f"Expected a radiograph in [0, 1] in {path}, got {float(image.min()):.2f} to "
            f"{float(image.max()):.2f}.",
            "Run the step radiographs with mean=0 and std=1, or framed by the lungs.",
        )
    return image


class UnpairedRadiographs(Dataset[dict[str, torch.Tensor]]):
    """Items: "real" and "computed" (1, P, P) in [0, 1]; the computed one is drawn by the seed.

    Args:
        real, computed: folders of the step radiographs, with images of one size.

    Raises:
        InputError: a folder without radiographs.
    """

    def __init__(self, real: Path, computed: Path) -> None:
        self._real, self._computed = radiograph_cases(real), radiograph_cases(computed)

    def __len__(self) -> int:
        return len(self._real)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        other = int(np.random.default_rng(seed).integers(len(self._computed)))
        return {
            "real": read_unit_radiograph(*self._real[place]),
            "computed": read_unit_radiograph(*self._computed[other]),
        }
