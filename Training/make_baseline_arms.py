"""Arms that no denoiser made, between which a generator's numbers are read: the autoencoder's reconstruction
of the real volumes, the mean training volume, and the volume of the nearest training radiograph.

python Training/make_baseline_arms.py --out runs/virtual/baselines --set latents=runs/virtual/latents \\
    films=runs/virtual/cxr autoencoder=runs/virtual/autoencoder/autoencoder dataset=virtual
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.latent_cases import (
    LatentCase,
    film_files,
    first_volumes,
    read_film,
    read_latent_cases,
    read_latents,
)
from xray2ctpa_core.data.splits import TEST, TRAIN, by_split
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.baselines import INDEX_PIXELS
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.models.hu import denormalise_hu
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.training.arms import units, write_arm, write_pairs

#: The volume (D, H, W) HU that an arm shows for a case.
Maker = Callable[[LatentCase], np.ndarray]


@dataclass(frozen=True)
class Config:
    """latents: folder of the step latents; films: of the step radiographs; autoencoder: that made the latents;
    hu_window: that the volumes were clipped to; studies: of the test, from the first, 0 for all; only: of the
    arms, all where it is empty; reconstruction: name of that arm, where two codecs are compared; dataset: of
    the arms."""

    latents: str = "runs/paper/latents"
    films: str = "runs/paper/cxr"
    autoencoder: str = "runs/paper/autoencoder/autoencoder"
    hu_window: tuple[float, ...] = PAPER_HU_WINDOW
    studies: int = 0
    only: tuple[str, ...] = ()
    reconstruction: str = "reconstruction"
    dataset: str = ""


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - made in minutes
    """Writes the arms reconstruction, mean-volume and nearest into ``out``, of the first volume of each test
    study."""
    makers: dict[str, Callable[[list[LatentCase]], Maker]] = {
        "reconstruction": lambda training: reconstruction(config),  # noqa: ARG005 - learned from none
        "mean-volume": mean_volume,
        "nearest": lambda training: nearest(first_volumes(training), Path(config.films)),
    }
    chosen = config.only or tuple(makers)
    if not set(chosen) <= set(makers):
        raise ConfigError(f"Expected only= out of {', '.join(makers)}, got {', '.join(chosen)}.")
    needed = (TEST,) if chosen == ("reconstruction",) else (TRAIN, TEST)
    parts = by_split(read_latent_cases(Path(config.latents)), needed)
    tested = first_volumes(parts[TEST])[: config.studies or None]
    for arm in chosen:
        name = config.reconstruction if arm == "reconstruction" else arm
        write_volumes(tested, makers[arm](parts[TRAIN]), out / name, Bar(name))
        write_arm(out / name, name, "generator", config.dataset)


def write_volumes(
    cases: Sequence[LatentCase], make: Maker, out: Path, progress: Callable[[int, int], None]
) -> None:
    """Writes what ``make`` makes for each case on the real volume's grid, and pairs.csv."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (unit, case) in enumerate(zip(units(cases), cases, strict=True), 1):
        file = out / f"{case.row:05d}.nii.gz"
        write_volume(read_volume(case.volume).with_array(make(case)), file, np.int16)
        rows.append((unit, os.path.relpath(case.volume, out), file.name))
        progress(number, len(cases))
    write_pairs(out, rows)


def reconstruction(config: Config) -> Maker:
    """Decodes the case's own latents."""
    codec = load_codec(config.autoencoder)

    @torch.no_grad()
    def make(case: LatentCase) -> np.ndarray:
        decoded = codec.decode(torch.from_numpy(read_latents(case))[None])
        return denormalise_hu(decoded[0, 0], config.hu_window).numpy()

    return make


def mean_volume(training: Sequence[LatentCase]) -> Maker:
    """The mean of all training volumes, voxel by voxel of their crops."""
    total = sum(read_volume(case.volume).array.astype(np.float64) for case in training)
    mean = np.asarray(total / len(training), np.float32)
    return lambda case: mean  # noqa: ARG005 - the same for every case


def nearest(training: Sequence[LatentCase], films: Path) -> Maker:
    """The volume of the training study whose film, INDEX_PIXELS a side, correlates best with the case's."""

    def index(cases: Sequence[LatentCase]) -> np.ndarray:
        """(N, INDEX_PIXELS ** 2), of mean 0 and length 1."""
        images = torch.stack([read_film(file, str(file)) for file in film_files(films, cases)])
        small = functional.interpolate(images, (INDEX_PIXELS,) * 2, mode="bilinear", antialias=True)
        rows = small.flatten(1) - small.flatten(1).mean(1, keepdim=True)
        return functional.normalize(rows, dim=1).numpy()

    known = index(training)

    def make(case: LatentCase) -> np.ndarray:
        place = int(np.argmax(known @ index([case])[0]))
        return read_volume(training[place].volume).array.astype(np.float32)

    return make


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"studies": 2}))
