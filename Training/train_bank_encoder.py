"""People's stage 2: the radiograph encoder of a bank of atlases, on patients drawn as they are needed.

python Training/train_bank_encoder.py --out runs/default/bank-encoder --set people=runs/default/people

First the bank, the directions in which maps differ, and the linear read-out are made of drawn patients, in
closed form; then gradient descent goes on. `without` names people who teach nothing: the fold.
"""

import dataclasses
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import default_collate

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.simulation.people.findings import SHOWN
from xray2ctpa_core.simulation.people.person import people_in
from xray2ctpa_core.simulation.people.population import GRID_HALF_MM, Population, load_population
from xray2ctpa_core.training.linear_reading import fit_linear
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.stages.bank_encoder import BankEncoderStage

#: Patients drawn before the loop have seeds from here on.
_FIRST_SEED = 900_000_000


@dataclass(frozen=True)
class Config(LoopConfig):
    """people: of pack_templates.py; without: names of those who teach nothing; grid, pixels, finer: of what
    is drawn (simulation.people.drawing.Shape); people_mm: voxels people are sampled from, bank_mm: those of
    the bank; map_patients, linear_patients: drawn for the directions of maps and for the linear read-out;
    kept: so many patients come again and again, 0: each is new; minutes: of the loop, instead of steps, where
    above 0; the rest as in the classes used."""

    people: str = "runs/default/people"
    without: tuple[str, ...] = ()
    grid: tuple[int, ...] = (64, 128, 128)
    pixels: int = 256
    finer: tuple[int, ...] = (2, 1, 1)
    people_mm: float = 2.0
    bank_mm: float = 3.2
    map_patients: int = 256
    linear_patients: int = 640
    kept: int = 0
    minutes: float = 0.0
    directions: int = 80
    channels: tuple[int, ...] = (16, 32, 64, 96, 128)
    steps: int = 600
    batch_size: int = 8
    learning_rate: float = 5e-4
    precision: str = "no"


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/encoder."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    population = teaching(config.people, config.without, config.people_mm, device)
    data = DrawnPatients(population, shape_of(config), config.kept)
    encoder = new_encoder(config, population, data).to(device)
    if not resume:
        patients = batches(data, config.linear_patients, config.batch_size, _FIRST_SEED)
        print(f"linear read-out: {fit_linear(encoder, patients)} patients", flush=True)
    stage = BankEncoderStage(encoder)
    if config.minutes and not resume:
        config = dataclasses.replace(config, steps=steps_within(config.minutes, stage, data, config))
    train(stage, data, config, out, resume, Bar("bank encoder"))
    save_network(encoder.cpu(), out / "encoder")


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


def shape_of(config: Config) -> Shape:
    """What is drawn of a patient."""
    (depth, height, width), (a, b, c) = config.grid, config.finer
    return Shape((depth, height, width), config.pixels, (a, b, c))


def new_encoder(config: Config, population: Population, data: DrawnPatients) -> BankEncoder:
    """An encoder with the population's bank and maps."""
    axes = [torch.linspace(-half, half, 2 * round(half / config.bank_mm) + 1) for half in GRID_HALF_MM]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].to(population.values.device)
    volumes = population.volumes_in_reference(points, ("native", "enhancement")).sum(1)
    lower, upper = DEFAULT_HU_WINDOW
    encoder = BankEncoder(
        len(population.names),
        tuple(volumes.shape[1:]),
        config.grid,
        directions=config.directions,
        channels=config.channels,
        signs=len(SHOWN),
    )
    encoder.bank.set_volumes(((volumes - lower) / (upper - lower) * 2 - 1).clamp(-1, 1).cpu(), config.bank_mm)
    drawn = batches(data, config.map_patients, config.batch_size, _FIRST_SEED * 2)
    encoder.set_maps(torch.cat([batch["template_map"].cpu() for batch in drawn]))
    return encoder


def batches(data: DrawnPatients, patients: int, size: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """``patients`` drawn patients in batches of at most ``size``."""
    for first in range(0, patients, size):
        keys = [(first + place, seed + first + place) for place in range(min(size, patients - first))]
        yield default_collate(data.__getitems__(keys))


def steps_within(
    minutes: float, stage: BankEncoderStage, data: DrawnPatients, config: Config, tried: int = 4
) -> int:
    """Steps that fit in so many minutes, by the time that a few take; at least 10."""
    generator = torch.Generator(next(stage.module.parameters()).device).manual_seed(0)
    spent = []
    for batch in batches(data, tried * config.batch_size, config.batch_size, 2 * _FIRST_SEED + 1):
        began = time.monotonic()
        loss, _ = stage.loss(stage.module, batch, generator)
        loss.backward()
        float(loss.detach())
        spent.append(time.monotonic() - began)
    stage.module.zero_grad(set_to_none=True)
    began = time.monotonic()
    list(batches(data, 2 * config.batch_size, config.batch_size, 3 * _FIRST_SEED))
    step = min(spent) + (time.monotonic() - began) / 2
    return max(10, round(60 * minutes / step))


if __name__ == "__main__":
    small = {
        "grid": [16, 16, 16],
        "pixels": 32,
        "finer": [1, 1, 1],
        "people_mm": 8.0,
        "bank_mm": 16.0,
        "map_patients": 4,
        "linear_patients": 4,
        "directions": 3,
        "channels": [8, 8, 16, 16],
        "steps": 2,
        "batch_size": 2,
    }
    sys.exit(run_stage(__doc__, Config, run, small))
