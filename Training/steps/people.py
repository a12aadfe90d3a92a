"""What the steps of the embedded default share: people who teach, and patients drawn of them."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import default_collate

from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.simulation.people.person import people_in
from xray2ctpa_core.simulation.people.population import Population, load_population
from xray2ctpa_core.training.settings.people import PeopleConfig

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def teaching(config: PeopleConfig) -> Population:
    """Those who teach. Raises ConfigError where ``without`` names nobody or leaves nobody."""
    everybody = people_in(Path(config.people))
    if unknown := set(config.without) - {person.name for person in everybody}:
        raise ConfigError(f"Expected people of {config.people} in without, got {', '.join(sorted(unknown))}.")
    kept = [person for person in everybody if person.name not in config.without]
    if not kept:
        raise ConfigError(f"Expected at least one of {config.people} to teach, got all in without.")
    return load_population(kept, DEVICE, config.people_mm)


def enhanced_people(people: str) -> frozenset[str]:
    """Names of the people with contrast medium."""
    return frozenset(person.name for person in people_in(Path(people)) if person.enhanced)


def batches(data: DrawnPatients, patients: int, size: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """``patients`` drawn patients in batches of at most ``size``."""
    for first in range(0, patients, size):
        keys = [(first + place, seed + first + place) for place in range(min(size, patients - first))]
        yield default_collate(data.__getitems__(keys))
