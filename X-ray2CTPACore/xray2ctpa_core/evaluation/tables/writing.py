"""Writes a generator's arm: volumes on the grids of the real ones, and the tables with the names of both."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from xray2ctpa_core.data.latent_cases import LatentCase
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.preprocessing.grid import resample_onto
from xray2ctpa_core.training.arms import units, write_arm, write_pairs
from xray2ctpa_core.volume import Volume

#: Makes a case's volume: (D, H, W) HU on the real volume's grid, or a Volume that is resampled to it.
Maker = Callable[[LatentCase], np.ndarray | Volume]


def write_generator_arm(
    out: Path,
    name: str,
    dataset: str,
    cases: Sequence[LatentCase],
    make: Maker,
    progress: Callable[[int, int], None],
    window: tuple[float, float] | None = None,
) -> None:
    """Writes the volume of each case, pairs.csv and arm.json.

    Args:
        out: folder of the arm.
        name, dataset: of the arm.
        cases: one volume for each study.
        make: the volume of a case.
        progress: called with (done, of).
        window: HU (lower, upper) that volumes are clipped to before they are moved; what lies outside them
            gets the lower.
    """
    rows = []
    (out / "volumes").mkdir(parents=True, exist_ok=True)
    for number, (unit, case) in enumerate(zip(units(cases), cases, strict=True), 1):
        real, made = read_volume(case.volume), make(case)
        if isinstance(made, Volume):
            lower, upper = window or (float(made.array.min()), float(made.array.max()))
            depth, height, width = real.array.shape
            clipped = made.with_array(np.clip(made.array, lower, upper))
            shown = resample_onto(clipped, real.affine, (depth, height, width), lower)
        else:
            shown = real.with_array(made)
        file = out / "volumes" / f"{case.row:05d}.nii.gz"
        write_volume(shown, file, np.int16)
        rows.append((unit, os.path.relpath(case.volume, out), os.path.relpath(file, out)))
        progress(number, len(cases))
    write_pairs(out, rows)
    write_arm(out, name, "generator", dataset)
