"""Fits the radiograph encoder of a bank of atlases in closed form to drawn patients, or to studies."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from steps.people import DEVICE, taught, teachers
from torch.nn import functional

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.splits import TRAIN
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.encoders.atlas_bank import parted
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.simulation.people.findings import SHOWN
from xray2ctpa_core.simulation.people.person import people_in
from xray2ctpa_core.simulation.people.population import GRID_HALF_MM, Population, load_population
from xray2ctpa_core.training.bank_read_outs import ReadPatients, fit_read_outs
from xray2ctpa_core.training.clear_lungs import clear_lungs
from xray2ctpa_core.training.loop import save_network
from xray2ctpa_core.training.settings.people import BankConfig, BankEncoderSettings

#: Patients drawn for the read-outs have seeds from here on.
_FIRST_SEED = 900_000_000
#: Contrast medium of the bank over that of its CTs (routine chests): in pulmonary arteries, in all else.
_RIGHT, _LEFT = 1.8, 1.1


def run(config: BankEncoderSettings, out: Path) -> None:
    """Fits and saves ``out``/encoder."""
    began = time.process_time()
    names, enhanced, tissue = bank(config)
    encoder = new_encoder(config, tissue).to(DEVICE)

    def patients() -> Iterator[dict[str, torch.Tensor]]:
        shape, done = Shape(config.drawn_grid, config.pixels, (1, 1, 1)), 0
        for batch in taught(config, shape, config.patients, config.batch_size, _FIRST_SEED, TRAIN):
            yield batch
            done += len(batch["image"])
            if 0 < config.processor_seconds <= time.process_time() - began:
                print(f"{done} patients", flush=True)
                return

    if config.pool:
        read = pooled(config, names).to(DEVICE)
    else:
        flags = [True] if config.studies else enhanced  # a study is a CTPA
        read = ReadPatients.of(encoder, patients(), flags)
    fit_read_outs(encoder, read)
    save_network(encoder.cpu(), out / "encoder")


def read_pool(folder: Path, people: str, patients: int) -> tuple[ReadPatients, torch.Tensor, torch.Tensor]:
    """The first ``patients`` of a pool (step people-folds); whose tissue each has (N,), and whose shapes
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


def pooled(config: BankEncoderSettings, who: Sequence[str]) -> ReadPatients:
    """Those patients of the pool in whom nobody but ``who`` has a part."""
    names = [person.name for person in people_in(Path(config.people))]
    read, person, shapes = read_pool(Path(config.pool), config.people, config.patients)
    teach = torch.tensor([name in who for name in names])
    return read[teach[person] & teach[shapes].all(1)]


def bank(config: BankEncoderSettings) -> tuple[list[str], list[bool], torch.Tensor]:
    """Names of those who teach, whether each one's CT has contrast medium, and the bank's tissue
    (K, D, H, W) in [-1, 1], see `shared_tissue`."""
    people = teachers(config)
    who, enhanced = [person.name for person in people], [person.enhanced for person in people]
    chosen = [number for number, name in enumerate(who) if not config.tissue or name in config.tissue]
    if not chosen:
        raise ConfigError(
            f"Expected somebody who teaches in tissue, got {', '.join(config.tissue)}.",
            f"Who teaches: {', '.join(who)}. An empty tissue takes all of them.",
        )
    # One after another, in the finest voxels: each takes 160 MB.
    volumes = torch.cat([in_reference(load_population([person]), config.bank_mm) for person in people])
    shared = [number for number, has_medium in enumerate(enhanced) if has_medium]
    tissue = shared_tissue(volumes, config.bank_mm, chosen, shared)
    return who, enhanced, with_planes(tissue, config.bank_planes)


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


def new_encoder(config: BankConfig, tissue: torch.Tensor) -> BankEncoder:
    """An encoder with a bank of ``tissue`` (K, D, H, W) without single people's disease, not yet fitted."""
    encoder = BankEncoder(
        len(tissue),
        tuple(tissue.shape[1:]),
        config.grid,
        parts=config.parts,
        coarse=config.coarse,
        signs=len(SHOWN),
        share=config.share,
    )
    voxel_mm = [2 * half / (n - 1) for half, n in zip(GRID_HALF_MM, tissue.shape[1:], strict=True)]
    encoder.bank.set_volumes(clear_lungs(tissue, voxel_mm))
    return encoder.eval()
