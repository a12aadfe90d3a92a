"""What the steps of the embedded default share: people who teach, and patients, drawn of them or studies."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import default_collate

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.data.encoding import volume_cases
from xray2ctpa_core.data.splits import TRAIN, by_split
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.data.volumes import study_volumes
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.simulation.people.person import Person, people_in
from xray2ctpa_core.simulation.people.population import Population, load_population
from xray2ctpa_core.training.settings.people import PeopleConfig, TaughtConfig

#: What is kept of a patient that teaches encoder or denoiser.
TAUGHT = ("image", "template_map", "volume", "signs", "pe", "person")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def teachers(config: PeopleConfig) -> list[Person]:
    """Those who teach. Raises ConfigError where ``without`` names nobody or leaves nobody."""
    everybody = people_in(Path(config.people))
    if unknown := set(config.without) - {person.name for person in everybody}:
        raise ConfigError(f"Expected people of {config.people} in without, got {', '.join(sorted(unknown))}.")
    kept = [person for person in everybody if person.name not in config.without]
    if not kept:
        raise ConfigError(f"Expected at least one of {config.people} to teach, got all in without.")
    return kept


def teaching(config: PeopleConfig) -> Population:
    """Those who teach, ready to be drawn from; errors as in `teachers`."""
    return load_population(teachers(config), DEVICE, config.people_mm)


def enhanced_people(people: str) -> frozenset[str]:
    """Names of the people with contrast medium."""
    return frozenset(person.name for person in people_in(Path(people)) if person.enhanced)


def taught(
    config: TaughtConfig, shape: Shape, patients: int, size: int, seed: int, split: str
) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of at most ``size`` patients with image, template_map, volume, signs, pe and person: drawn,
    or studies of ``split``, of the training split where it has none. A bar counts them."""
    if config.studies:
        yield from _study_batches(config, size, split)
        return
    data = DrawnPatients(teaching(config), shape, keys=TAUGHT)
    bar, done = Bar("patients"), 0
    for batch in batches(data, patients, size, seed):
        yield batch
        done += len(batch["image"])
        bar(done, patients)


def _study_batches(config: TaughtConfig, size: int, split: str) -> Iterator[dict[str, torch.Tensor]]:
    if not config.radiographs:
        raise ConfigError("Expected radiographs for studies, got none.", "Name the folder of that step.")
    cases, lines = volume_cases(study_volumes(Path(config.studies)), Path(config.radiographs))
    print("\n".join(lines), end="\n" if lines else "")
    if any(case.split for case in cases):
        parts = by_split(cases)
        cases = parts[split] or parts[TRAIN]
    data = StudyData(cases, ("image", "map", "volume", "findings", "label"), window=DEFAULT_HU_WINDOW)
    bar = Bar("studies")
    for first in range(0, len(data), size):
        places = range(first, min(first + size, len(data)))
        batch = default_collate([data[(place, 0)] for place in places])
        batch = {name: values.to(DEVICE) for name, values in batch.items()}
        yield batch | {"pe": batch["label"], "person": torch.zeros_like(batch["label"], dtype=torch.long)}
        bar(places[-1] + 1, len(data))


def batches(data: DrawnPatients, patients: int, size: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """``patients`` drawn patients in batches of at most ``size``."""
    for first in range(0, patients, size):
        keys = [(first + place, seed + first + place) for place in range(min(size, patients - first))]
        yield default_collate(data.__getitems__(keys))
