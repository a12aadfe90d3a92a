"""Evaluation of bundles on people whose CTs were not used in their training, with baselines from the other
people."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.baselines import Baselines
from xray2ctpa_core.evaluation.config import EvaluationConfig
from xray2ctpa_core.evaluation.patients import group_identity
from xray2ctpa_core.evaluation.people import Person, name_of, people_below
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, taught_people
from xray2ctpa_core.evaluation.rows import Bench, SubjectRows
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.summary import summarise_volumes

#: Called with (what, done, of).
Progress = Callable[[str, int, int], None]
#: Smallest number of people: one is measured, another makes the baselines.
LEAST_PEOPLE = 2


def evaluate_people(
    folders: Sequence[Path],
    named: Sequence[tuple[str, EvaluatedPipeline]],
    config: EvaluationConfig,
    store: RowStore,
    report: Progress,
) -> dict[str, Any]:
    """Measures every pipeline on people whose CTs were not used in its training, with the mean volume and
    the nearest radiograph of the other people as baselines.

    Args:
        folders: CTs of people, one file for each, in folders of any depth.
        named: (label, pipeline); people in a bundle's training (``taught_people``) are neither measured nor
            in its baselines.
        config: ``images`` people are measured, evenly spaced by name; all others make the baselines.
        store: of rows.
        report: progress.

    Returns:
        JSON-ready: ``people`` (measured, by bundle), ``left_out`` (people in its training, by bundle),
        ``enhanced`` (names), ``features``, and the lists of ``summarise_volumes``.

    Raises:
        InputError: fewer than LEAST_PEOPLE outside a bundle's training, or a CT that cannot be read.
    """
    instruments = config.instruments("planes")
    files = people_below(folders)
    rows: list[Row] = []
    measured: dict[str, list[str]] = {}
    left_out: dict[str, list[str]] = {}
    enhanced: set[str] = set()
    made: dict[tuple[Path, str], Person] = {}
    for name, pipeline in named:
        taught, geometry = taught_people(pipeline.bundle), pipeline.bundle.geometry
        left_out[name] = [n for file in files if (n := name_of(file)) in taught]
        people = [
            made.setdefault((file, f"{geometry.grid} {geometry.depth_fraction}"), Person(file, geometry))
            for file in files
            if name_of(file) not in taught
        ]
        if len(people) < LEAST_PEOPLE:
            raise InputError(
                f"Expected {LEAST_PEOPLE} people or more who taught {name} nothing, got {len(people)} of "
                f"{len(files)}.",
                "Add CTs of other people to the folder.",
            )
        places = sorted({round(n) for n in np.linspace(0, len(people) - 1, config.images)})
        chosen = [people[place] for place in places]
        measured[name] = [person.name for person in chosen]
        for number, person in enumerate(chosen, 1):
            others = [other for other in people if other is not person]
            identity = group_identity(others)
            baselines = Baselines(others, identity)
            bench = Bench(
                identity, baselines, store, instruments, config.samples, config.steps or None, config.seed
            )
            rows += SubjectRows(person, bench).images(name, pipeline, several=True)
            enhanced |= {person.name} if person.enhanced else set()
            report("people", number, len(chosen))
    return {
        "people": measured,
        "left_out": left_out,
        "enhanced": sorted(enhanced),
        "features": instruments.titles,
        **summarise_volumes(rows, list(measured), config.samples),
    }
