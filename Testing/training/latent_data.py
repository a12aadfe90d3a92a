"""Writes latents and films as encode_latents.py and preprocess_cxr.py do, small and at random."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_latents(folder: Path, changes: dict[int, dict[str, Any]] | None = None, cases: int = 6) -> Path:
    """Two volumes of each case; case n has the label n % 2 and the splits train, train, validation, test."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = ["train", "train", "valid", "valid", "test", "test"]
    index = [
        {
            "volume": f"s{n}-{v}.nii.gz", "id": f"s{n}", "patient": f"p{n}", "label": str(n % 2),
            "split": splits[n % 6],
        }
        for n in range(cases)
        for v in range(2)
    ]  # fmt: skip
    for row, change in (changes or {}).items():
        index[row] |= change
    (folder / "index.json").write_text(json.dumps(index))
    latents = np.random.default_rng(0).normal(1.0, 2.0, (2 * cases, 4, 8, 8, 8)).astype(np.float16)
    np.save(folder / "latents.npy", latents)
    statistics = {"mean": [1.0] * 4, "std": [2.0] * 4, "gain": [1.0] * 4}
    (folder / "statistics.json").write_text(json.dumps(statistics))
    return folder


def write_films(folder: Path, cases: int = 6, pixels: int = 32) -> Path:
    """A film of each case, a constant that is the case's number."""
    rows = ["id,patient,label,split,folder"]
    for n in range(cases):
        (folder / "cases" / f"s{n}").mkdir(parents=True)
        np.save(folder / "cases" / f"s{n}" / "cxr.npy", np.full((pixels, pixels), n, np.float32))
        rows.append(f"s{n},p{n},{n % 2},,cases/s{n}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder
