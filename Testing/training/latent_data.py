"""Writes latents and radiographs as the steps latents and radiographs do, small and at random."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.data.latent_cases import COLUMNS, read_latent_cases, read_latents
from xray2ctpa_core.data.sources.table import csv_text

SPLITS = ("train", "train", "valid", "valid", "test", "test")
#: Mean and deviation that the statistics say.
MEAN, STD = 1.0, 2.0


def write_latents(folder: Path, changes: dict[int, dict[str, Any]] | None = None, cases: int = 6) -> Path:
    """Two volumes of each case; case n has the label n % 2 and the splits train, train, validation, test.

    ``changes`` are cells of the index by row; a "volume" is a path.
    """
    (folder / "latents").mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), []
    for row in range(2 * cases):
        n = row // 2
        file = folder / "latents" / f"{row:06d}.npy"
        np.save(file, rng.normal(MEAN, STD, (4, 8, 8, 8)).astype(np.float16))
        cells = {"study": f"s{n}", "patient": f"p{n}", "label": str(n % 2), "split": SPLITS[n % 6]}
        cells |= {"volume": f"s{n}-{row % 2}.nii.gz", "latents": f"latents/{file.name}"}
        cells |= (changes or {}).get(row, {})
        rows.append([str(cells.get(column, "")) for column in COLUMNS])
    (folder / "index.csv").write_text(csv_text(COLUMNS, rows))
    statistics = {"mean": [MEAN] * 4, "std": [STD] * 4, "gain": [1.0] * 4}
    (folder / "statistics.json").write_text(json.dumps(statistics))
    return folder


def read_all(folder: Path) -> np.ndarray:
    """(N, 4, 8, 8, 8) latents of an index, in order."""
    return np.stack([read_latents(case) for case in read_latent_cases(folder)])


def write_radiographs(folder: Path, cases: int = 6, pixels: int = 32) -> Path:
    """A radiograph of each case, a constant that is the case's number."""
    rows = ["id,patient,label,split,folder"]
    for n in range(cases):
        (folder / "cases" / f"s{n}").mkdir(parents=True)
        np.save(folder / "cases" / f"s{n}" / "cxr.npy", np.full((pixels, pixels), n, np.float32))
        rows.append(f"s{n},p{n},{n % 2},,cases/s{n}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder
