"""Small evaluated arms: predictions of six folds, and pairs of volumes that a test can reckon with."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume, axial_affine

GRID = (12, 32, 32)
AFFINE = axial_affine(GRID, (120.0, 240.0, 300.0))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    text = "\n".join(",".join(str(cell) for cell in row) for row in [columns, *rows])
    path.write_text(text + "\n", encoding="utf-8")
    return path


def describe(folder: Path, name: str, kind: str, dataset: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"name": name, "kind": kind, "dataset": dataset})
    (folder / "arm.json").write_text(text, encoding="utf-8")
    return folder


def write_arm(
    folder: Path,
    name: str,
    *,
    dataset: str = "virtual",
    patients: int = 120,
    folds: int = 2,
    strength: float = 1.0,
    seed: int = 0,
) -> Path:
    """A classifier: patient n is tested in fold n mod ``folds`` and validates in the next one.

    Label: n mod 4 // 2; score: sigmoid(strength * (2 label - 1) + noise).
    """
    describe(folder, name, "classifier", dataset)
    rng = np.random.default_rng(seed)
    rows: list[tuple[object, ...]] = []
    for split, offset in (("validation", 1), ("test", 0)):
        for number in range(patients):
            label = number % 4 // 2
            score = 1 / (1 + np.exp(-strength * (2 * label - 1) - rng.normal()))
            rows.append((f"p{number:03d}", (number + offset) % folds, split, label, f"{score:.6f}"))
    write_table(folder / "predictions.csv", ("patient", "fold", "split", "label", "score"), rows)
    return folder


def chest(number: int) -> np.ndarray:
    """(D, H, W) HU: two lungs a heart of the patient's size, a texture of the patient's own."""
    hu = np.full(GRID, 40.0)
    hu[2:10, 6:26, 3:13] = -850
    hu[2:10, 6:26, 19:29] = -850
    hu[3:9, 9:18, 12 - number % 3 : 20 + number % 3] = 300
    return hu + np.random.default_rng(number).normal(0, 20, GRID)


def write_generator(
    folder: Path,
    name: str,
    *,
    dataset: str = "virtual",
    patients: int = 6,
    error: float = 50.0,
    gradcam: bool = False,
) -> Path:
    """A generator whose volumes are the real ones plus noise of ``error`` HU."""
    describe(folder, name, "generator", dataset)
    rows = []
    for number in range(patients):
        real = chest(number)
        noise = np.random.default_rng(1000 + number).normal(0, error, GRID)
        heat = np.zeros(GRID, dtype=np.float32)
        heat[4:7, 12:16, 20:24] = np.linspace(0.3, 1, 3)[:, None, None]
        files = {
            "real": (real, np.int16),
            "generated": (real + noise, np.int16),
            "gradcam": (heat, np.float32),
        }
        for kind, (array, dtype) in files.items():
            write_volume(Volume(array, AFFINE), folder / f"{kind}-{number}.nii.gz", dtype)
        names = [f"{kind}-{number}.nii.gz" for kind in files]
        rows.append((f"p{number:03d}", *(names if gradcam else names[:2])))
    columns = ("patient", "real", "generated", "gradcam")
    write_table(folder / "pairs.csv", columns if gradcam else columns[:3], rows)
    return folder
