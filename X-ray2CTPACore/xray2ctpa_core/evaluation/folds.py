"""Bundles that are the folds of one system: everybody is measured with one that was made without them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.config import EvaluationConfig
from xray2ctpa_core.evaluation.instruments import make_instruments
from xray2ctpa_core.evaluation.patients import CohortPatient, check_both_classes, cohort_patients
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, taught_people
from xray2ctpa_core.evaluation.rows import Bench, PatientRows
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.summary import summarise

Named = Sequence[tuple[str, EvaluatedPipeline]]


def systems(named: Named, folds: bool) -> list[tuple[str, list[EvaluatedPipeline]]]:
    """(label, bundles): each bundle for itself, or all as the folds of one system."""
    if not folds:
        return [(name, [pipeline]) for name, pipeline in named]
    pipelines = [pipeline for _, pipeline in named]
    return [(f"{pipelines[0].bundle.name}, {len(pipelines)} folds", pipelines)]


def not_taught_by(person: str, pipelines: Sequence[EvaluatedPipeline]) -> EvaluatedPipeline | None:
    """The first bundle in whose training this person's CT was not used."""
    return next((p for p in pipelines if person not in taught_people(p.bundle)), None)


def pe_by_folds(
    cohort: Path,
    named: Named,
    config: EvaluationConfig,
    store: RowStore,
    report: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """PE of virtual patients of people, each with a fold that was trained without their person.

    Logits of real latents are put on the scale of each fold's calibrated logits, so that folds can be pooled;
    a threshold is each fold's own, so that no decisions are counted.

    Args:
        cohort: folder that a step of kind people-studies wrote.
        named: (label, pipeline) of the folds.
        config: ``auroc`` patients are measured, evenly spaced; volumes are not compared.
        store: of rows.
        report: called with (what, done, of).

    Returns:
        The lists of ``summarise``.

    Raises:
        InputError: patients without a person, none that a fold does not know, or only one class.
    """
    ((name, pipelines),) = systems(named, folds=True)
    found: list[tuple[CohortPatient, EvaluatedPipeline]] = []
    for patient in cohort_patients(cohort, config.split):
        if "person" not in patient.record:
            raise InputError(
                f"Expected virtual patients of named people in {cohort}, got {patient.name} without one.",
                "Make them with a step of kind people-studies (docs/experiments/many-people.md).",
            )
        pipeline = not_taught_by(str(patient.record["person"]), pipelines)
        if pipeline is not None:
            found.append((patient, pipeline))
    places = sorted({round(place) for place in np.linspace(0, len(found) - 1, min(config.auroc, len(found)))})
    chosen = [found[place] for place in places]
    check_both_classes([patient for patient, _ in chosen])
    instruments = make_instruments(config.metrics, config.weights)
    bench = Bench("", None, store, instruments, config.samples, config.steps or None, config.seed)
    rows: list[Row] = []
    for number, (patient, pipeline) in enumerate(chosen, 1):
        row = PatientRows(patient.fresh(), bench).classification(name, pipeline)
        if row["real"] is not None:
            row["real"] = pipeline.bundle.pe.platt_a * row["real"] + pipeline.bundle.pe.platt_b
        rows.append(row)
        report("unseen patients", number, len(chosen))
    return summarise(rows, {name: None}, config.samples)
