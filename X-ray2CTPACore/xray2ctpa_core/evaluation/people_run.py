"""Evaluation of bundles on people whose CTs were not used in their training, with baselines from the other
people."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.baselines import Baselines
from xray2ctpa_core.evaluation.config import EvaluationConfig
from xray2ctpa_core.evaluation.folds import not_taught_by, systems
from xray2ctpa_core.evaluation.instruments import make_instruments
from xray2ctpa_core.evaluation.patients import group_identity
from xray2ctpa_core.evaluation.people import Person, name_of, people_below
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline
from xray2ctpa_core.evaluation.rows import Bench, SubjectRows
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.summary import summarise_volumes
from xray2ctpa_core.pipelines.bundle import GeometryRule

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
            in its baselines. With ``config.folds`` the bundles are the folds of one system: each person is
            measured with the first bundle that was trained without them, and all others are the baselines.
        config: ``images`` people are measured, evenly spaced by name; all others make the baselines.
        store: of rows.
        report: progress.

    Returns:
        JSON-ready: ``people`` (measured, by bundle), ``left_out`` (people in its training, by bundle),
        ``enhanced`` (names), ``features``, and the lists of ``summarise_volumes``.

    Raises:
        InputError: fewer than LEAST_PEOPLE outside a bundle's training, or a CT that cannot be read.
    """
    instruments = make_instruments((*config.metrics, "planes"), config.weights)
    files = people_below(folders)
    rows: list[Row] = []
    measured: dict[str, list[str]] = {}
    left_out: dict[str, list[str]] = {}
    enhanced: set[str] = set()
    made: dict[tuple[Path, str], Person] = {}

    def person_of(file: Path, geometry: GeometryRule) -> Person:
        return made.setdefault((file, f"{geometry.grid} {geometry.depth_fraction}"), Person(file, geometry))

    for name, pipelines in systems(named, config.folds):
        untaught = [(file, found) for file in files if (found := not_taught_by(name_of(file), pipelines))]
        measurable = [file for file, _ in untaught]
        others_of = files if config.folds else measurable
        left_out[name] = [name_of(file) for file in files if file not in measurable]
        if len(untaught) < LEAST_PEOPLE:
            raise InputError(
                f"Expected {LEAST_PEOPLE} people or more who taught {name} nothing, got {len(untaught)} of "
                f"{len(files)}.",
                "Add CTs of other people to the folder.",
            )
        places = sorted({round(n) for n in np.linspace(0, len(untaught) - 1, config.images)})
        measured[name] = [name_of(untaught[place][0]) for place in places]
        for number, (file, pipeline) in enumerate((untaught[place] for place in places), 1):
            geometry = pipeline.bundle.geometry
            person = person_of(file, geometry)
            others = [person_of(other, geometry) for other in others_of if other != file]
            identity = group_identity(others)
            baselines = Baselines(others, identity)
            bench = Bench(
                identity, baselines, store, instruments, config.samples, config.steps or None, config.seed
            )
            rows += SubjectRows(person, bench).images(name, pipeline, several=True)
            enhanced |= {person.name} if person.enhanced else set()
            report("people", number, len(places))
    return {
        "people": measured,
        "left_out": left_out,
        "enhanced": sorted(enhanced),
        "features": instruments.titles,
        **summarise_volumes(rows, list(measured), config.samples),
    }
