"""Steps that simulate patients."""

import dataclasses
import os
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.cohort_studies import COHORT_SPLITS, cohort_studies
from xray2ctpa_core.data.index import INDEX_FILE, write_index
from xray2ctpa_core.data.people_studies import people_studies
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.simulation.build import build_cohort, read_record, summarise
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.simulation.people.person import people_in
from xray2ctpa_core.training.settings.simulation import (
    CohortSettings,
    PeopleStudiesSettings,
    StudiesSettings,
)


def cohort(config: CohortSettings, out: Path) -> None:
    """Writes ``out``/train, calibration and test, and studies.csv, which lists them."""
    counts = {name: getattr(config, name) for name in COHORT_SPLITS}
    for name, patients in counts.items():
        if patients:
            seed = getattr(config, f"{name}_seed")
            summary = build_cohort(
                out / name, patients, seed, workers(config.workers), Bar(f"cohort ({name})")
            )
            print("\n".join([name, *summary.summary_lines()]))
    write_index(out / INDEX_FILE, cohort_studies(out, counts))


def studies(config: StudiesSettings, out: Path) -> None:
    """Writes ``out``/studies.csv with each cohort as a split; files are not copied."""
    counts = {name: getattr(config, name) for name in COHORT_SPLITS}
    write_index(out / INDEX_FILE, cohort_studies(Path(config.cohort), counts))


def studies_of_people(config: PeopleStudiesSettings, out: Path) -> None:
    """Writes ``out``/NAME/NUMBER, virtual patients of each person, and studies.csv, which lists them."""
    everybody = people_in(Path(config.people))
    named = {*config.validated, *config.tested}
    if unknown := sorted(named - {person.name for person in everybody}):
        there = ", ".join(person.name for person in everybody)
        raise ConfigError(
            f"Expected people of {config.people} in validated and tested, got {', '.join(unknown)}.",
            f"Take names out of {there}.",
        )
    people = [person for person in everybody if person.name not in config.without]
    shape = Shape(config.grid, config.pixels, config.finer)
    bar = Bar("people")
    drawn = people_studies(out, people, config.patients, shape, config.people_mm, config.seed, bar)
    records = [read_record(study.findings.parent) for study in drawn if study.findings is not None]
    print("\n".join(summarise(records).summary_lines()))
    if config.tested:
        splits = dict.fromkeys(config.validated, "valid") | dict.fromkeys(config.tested, "test")
        drawn = [dataclasses.replace(study, split=splits.get(study.patient, "train")) for study in drawn]
    write_index(out / INDEX_FILE, drawn)


def workers(asked: int) -> int:
    """Number of processes: ``asked``, or for 0 one per processor."""
    return asked or os.cpu_count() or 1
