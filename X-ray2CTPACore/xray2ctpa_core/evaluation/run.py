"""The evaluation of bundles on people, virtual patients and real images."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.baselines import Baselines
from xray2ctpa_core.evaluation.config import EvaluationConfig
from xray2ctpa_core.evaluation.folds import pe_by_folds
from xray2ctpa_core.evaluation.instruments import make_instruments
from xray2ctpa_core.evaluation.open_pairs import evaluate_open_pairs
from xray2ctpa_core.evaluation.pair import evaluate_pair
from xray2ctpa_core.evaluation.patients import (
    CohortPatient,
    check_apart,
    check_both_classes,
    cohort_patients,
    group_identity,
)
from xray2ctpa_core.evaluation.people_run import evaluate_people
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, weights_id
from xray2ctpa_core.evaluation.radiographs import evaluate_radiographs
from xray2ctpa_core.evaluation.rows import Bench, PatientRows
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.summary import summarise

#: Called with (what, done, of).
Progress = Callable[[str, int, int], None]
Named = list[tuple[str, EvaluatedPipeline]]


def evaluate(
    cohort: Path | None,
    train: Path | None,
    pipelines: Sequence[EvaluatedPipeline],
    config: EvaluationConfig,
    pairs: Sequence[Path] = (),
    out: Path | None = None,
    progress: Progress | None = None,
    radiographs: Sequence[Path] = (),
    people: Sequence[Path] = (),
    open_pairs: Sequence[Path] = (),
) -> dict[str, Any]:
    """Measures every pipeline on unseen subjects, with baselines.

    Args:
        cohort: folder of virtual patients; those of ``config.split`` are measured, with ``config.folds`` only
            their PE (``pe_by_folds``); None for none.
        train: folder whose patients of ``config.train_split`` make the baselines; None for ``cohort``.
        pipelines: one for each bundle.
        config: size of the evaluation.
        pairs: folders of real pairs, each measured by ``evaluate_pair``.
        out: folder of rows.jsonl and baselines.npz, from which a later call continues.
        progress: called with (what, done, of).
        radiographs: folders of real radiographs, each measured by ``evaluate_radiographs``.
        people: folders of real people's CTs, measured by ``evaluate_people``.
        open_pairs: prepared cohorts of open pairs, each measured by ``evaluate_open_pairs``.

    Returns:
        ``settings``, ``bundles``, ``features`` (that set distances were taken in), ``people`` (None without),
        ``open_pairs``, ``pairs``, ``radiographs`` and the lists of ``summarise``; JSON-ready.

    Raises:
        InputError: no cohort, no patients of a split, training patients, or only one class.
    """
    if not pipelines:
        raise InputError("Expected at least one bundle to evaluate, got none.")
    report = progress or (lambda _what, _done, _of: None)
    named: Named = list(zip(labels(pipelines), pipelines, strict=True))
    store = RowStore(None if out is None else out / "rows.jsonl")
    settings = {name: value for name, value in asdict(config).items() if name != "weights"}
    settings |= {"metrics": list(config.metrics)}
    virtual, mean, identities, titles = _on_cohort(cohort, train, named, config, store, out, report)
    measured_pairs = [
        evaluate_pair(pair, named, mean, config.steps, config.samples, config.seed) for pair in pairs
    ]
    measured_radiographs = [
        evaluate_radiographs(
            folder,
            named,
            config.radiographs,
            config.steps,
            config.seed,
            lambda done, of: report("real radiographs", done, of),
        )
        for folder in radiographs
    ]
    return {
        "settings": settings | identities,
        "bundles": {name: f"{p.bundle.version} {weights_id(p.bundle)}" for name, p in named},
        "features": titles,
        "people": evaluate_people(people, named, config, store, report) if people else None,
        "open_pairs": [
            evaluate_open_pairs(folder, named, config, store, report, cache=out) for folder in open_pairs
        ],
        **virtual,
        "pairs": measured_pairs,
        "radiographs": measured_radiographs,
    }


def _on_cohort(
    cohort: Path | None,
    train: Path | None,
    named: Named,
    config: EvaluationConfig,
    store: RowStore,
    out: Path | None,
    report: Progress,
) -> tuple[dict[str, Any], Any, dict[str, str], dict[str, str]]:
    """The lists of ``summarise``, the mean training volume, identities of the patients, features' titles."""
    points = {name: pipeline.bundle.pe for name, pipeline in named}
    if cohort is None:
        return summarise([], points, config.samples), None, {}, {}
    if config.folds:
        return pe_by_folds(cohort, named, config, store, report), None, {}, {}
    patients = cohort_patients(cohort, config.split)
    training = cohort_patients(train or cohort, config.train_split)
    chosen = patients[: max(config.images, config.auroc)]
    check_apart(chosen, training)
    if config.auroc:
        check_both_classes(patients[: config.auroc])
    instruments = make_instruments(config.metrics, config.weights)
    others = group_identity(training)
    cache = None if out is None else out / "baselines.npz"
    baselines = Baselines(training, others, cache, lambda done, of: report("training patients", done, of))
    bench = Bench(others, baselines, store, instruments, config.samples, config.steps or None, config.seed)
    rows: list[Row] = []
    for number, patient in enumerate(chosen):
        measured = PatientRows(CohortPatient(patient.folder), bench)  # its voxels are freed with it
        for name, pipeline in named:
            if number < config.images:
                rows += measured.images(name, pipeline, several=number < config.multi)
                rows += measured.heat(name, pipeline)
            if number < config.auroc:
                rows.append(measured.classification(name, pipeline))
        report("unseen patients", number + 1, len(chosen))
    identities = {"patients": group_identity(chosen), "training": others}
    return summarise(rows, points, config.samples), baselines.mean, identities, instruments.titles


def labels(pipelines: Sequence[EvaluatedPipeline]) -> list[str]:
    """Names of the pipelines' bundles, with digits of their weights if two have the same name."""
    names = [pipeline.bundle.name for pipeline in pipelines]
    return [
        name if names.count(name) == 1 else f"{name} {weights_id(pipeline.bundle)[:6]}"
        for name, pipeline in zip(names, pipelines, strict=True)
    ]
