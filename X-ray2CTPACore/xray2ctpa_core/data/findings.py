"""Known findings of a virtual patient: its signs, and masks of clots and signs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.simulation.build import CLOTS_FILE, SIGN_BITS_FILE
from xray2ctpa_core.simulation.sign_map import sign_masks
from xray2ctpa_core.simulation.signs import SIGNS

#: Kinds of evidence of PE in a virtual patient's masks, in order.
EVIDENCE = ("clot", *(sign.name for sign in SIGNS))


def signs_of(record: dict[str, Any] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(S,) presence of each sign in a record, and () the probability of PE given them; NaN without a
    record."""
    if record is None:
        return torch.full((len(SIGNS),), torch.nan), torch.tensor(torch.nan)
    signs = [float(record["signs"][sign.name]) for sign in SIGNS]
    return torch.tensor(signs), torch.tensor(float(record["sign_probability"]))


def read_evidence(folder: Path, grid: tuple[int, ...]) -> np.ndarray:
    """(len(EVIDENCE), D, H, W) bool on the latent grid: whether any voxel of the cell belongs to it.

    Raises:
        InputError: no map of the signs, as in cohorts of earlier versions.
    """
    if not (folder / SIGN_BITS_FILE).is_file():
        raise InputError(
            f"Expected {SIGN_BITS_FILE} in {folder}, found none.",
            "Simulate the cohort anew, or evidence=false.",
        )
    clots = read_volume(folder / CLOTS_FILE).array > 0
    masks = np.concatenate([clots[None], sign_masks(read_volume(folder / SIGN_BITS_FILE).array)])
    cells = functional.adaptive_max_pool3d(torch.from_numpy(masks.astype(np.float32)), tuple(grid))
    return cells.numpy() > 0
