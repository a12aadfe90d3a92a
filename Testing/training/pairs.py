"""Pairs of CT and radiograph as a laboratory has them: NIfTI and PNG, listed in studies.csv."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from xray2ctpa_core.constants import DEFAULT_GRID, MAP_GRID
from xray2ctpa_core.data.index import INDEX_FILE, write_index
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.simulation.signs import SIGNS
from xray2ctpa_core.volume import Volume, axial_affine


def write_real_pairs(real: Path, out: Path, wall: bool = False) -> Path:
    """The real pairs in ``real`` (ct.npz: uint8 slices from the neck down, of a window that is taken for
    -1000 to 900 HU; cxr.png), each as two studies of one patient; returns ``out``. They are cut at the lungs'
    box: with ``wall`` soft tissue and air lie around it, as a CT of the chest has them."""
    out.mkdir(parents=True, exist_ok=True)
    studies = []
    for folder in sorted(path for path in real.iterdir() if path.is_dir()):
        grey = np.load(folder / "ct.npz")["ground_truth"].astype(np.float32)
        hu = grey[::-1] / 255 * 1900 - 1000
        for copy in range(2):
            name = f"{folder.name}-{copy}"
            volume = Volume(hu, axial_affine(hu.shape, (320.0, 340.0, 340.0)))
            if wall:
                tissue = np.pad(hu, ((2, 2), (12, 12), (12, 12)), constant_values=40.0)
                padded = np.pad(tissue, ((0, 0), (12, 12), (12, 12)), constant_values=-1000.0)
                volume = Volume(padded, axial_affine(padded.shape, (340.0, 404.0, 404.0)))
            write_volume(volume, out / f"{name}.nii.gz", np.int16)
            with Image.open(folder / "cxr.png") as image:
                image.convert("L").save(out / f"{name}.png")
            files = out / f"{name}.nii.gz", out / f"{name}.png"
            studies.append(Study(name, folder.name, *files, label=copy, split="train"))
    write_index(out / INDEX_FILE, studies)
    return out


def write_mixed_studies(out: Path, maps: tuple[bool, ...]) -> Path:
    """Studies on the default's grid, one a flag: with a map into the atlas and findings, as virtual patients
    have, or without, as real ones; returns ``out`` with studies.csv."""
    rng = np.random.default_rng(0)
    axes = [np.linspace(-1, 1, points) for points in MAP_GRID]
    identity = np.stack(np.meshgrid(*axes, indexing="ij")[::-1]).astype(np.float16)
    studies = []
    for number, has_map in enumerate(maps):
        folder = out / f"s{number}"
        folder.mkdir(parents=True)
        hu = np.full(DEFAULT_GRID, -1000.0, np.float32)
        hu[:, 8:120, 8:120] = 40.0
        hu[8:56, 20:108, 16 + number : 50] = hu[8:56, 20:108, 78:112] = -850.0
        affine = axial_affine(DEFAULT_GRID, (300.0, 240.0, 300.0))
        write_volume(Volume(hu, affine), folder / "ctpa.nii.gz", np.int16)
        grey = np.kron((hu + 1000).mean(1)[::-1], np.ones((4, 2))) + rng.random((256, 256))
        Image.fromarray((grey / grey.max() * 65535).astype(np.uint16)).save(folder / "cxr.png")
        signs = {sign.name: bool(rng.random() < 0.5) for sign in SIGNS}
        frame = {"top": 0.0, "left": 0.0, "side": 256.0}
        record = {"pe": bool(number % 2), "sign_probability": 0.5, "signs": signs, "frame": frame}
        (folder / "patient.json").write_text(json.dumps(record))
        np.save(folder / "template-map.npy", identity)
        files = {"map": folder / "template-map.npy", "findings": folder / "patient.json"} if has_map else {}
        pair = folder / "ctpa.nii.gz", folder / "cxr.png"
        studies.append(Study(f"s{number}", f"p{number}", *pair, number % 2, "train", **files))
    write_index(out / INDEX_FILE, studies)
    return out
