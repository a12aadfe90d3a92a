"""Pairs of CT and radiograph as a laboratory has them: NIfTI and PNG, listed in studies.csv."""

from pathlib import Path

import numpy as np
from PIL import Image

from xray2ctpa_core.data.index import INDEX_FILE, write_index
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume, axial_affine

SPLITS = ("train", "train", "valid", "test")


def write_real_pairs(real: Path, out: Path) -> Path:
    """The real pairs in ``real`` (ct.npz: uint8 slices from the neck down, of a window that is taken for
    -1000 to 900 HU; cxr.png), each as two studies of one patient; returns ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    studies = []
    for folder in sorted(path for path in real.iterdir() if path.is_dir()):
        grey = np.load(folder / "ct.npz")["ground_truth"].astype(np.float32)
        hu = grey[::-1] / 255 * 1900 - 1000
        for copy in range(2):
            name = f"{folder.name}-{copy}"
            volume = Volume(hu, axial_affine(hu.shape, (320.0, 340.0, 340.0)))
            write_volume(volume, out / f"{name}.nii.gz", np.int16)
            with Image.open(folder / "cxr.png") as image:
                image.convert("L").save(out / f"{name}.png")
            files = out / f"{name}.nii.gz", out / f"{name}.png"
            studies.append(Study(name, folder.name, *files, label=copy, split="train"))
    write_index(out / INDEX_FILE, studies)
    return out


def write_virtual_pairs(cohort: Path, out: Path, studies: list[Study]) -> Path:
    """``studies`` without maps and findings: as if virtual patients were real; returns ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    plain = [Study(s.id, s.patient, s.volume, s.radiograph, s.label, s.split) for s in studies]
    write_index(out / INDEX_FILE, plain)
    return out
