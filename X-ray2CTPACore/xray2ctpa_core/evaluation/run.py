"""The evaluation of bundles on people, virtual patients and real images: every row once, then summed up."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.evaluation.baselines import Baselines
from xray2ctpa_core.evaluation.pair import evaluate_pair
from xray2ctpa_core.evaluation.patients import (
    CohortPatient,
    check_apart,
    check_both_classes,
    cohort_patients,
    group_identity,
)
from xray2ctpa_core.evaluation.people import Person, name_of, people_below
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, taught_people, weights_id
from xray2ctpa_core.evaluation.radiographs import evaluate_radiographs
from xray2ctpa_core.evaluation.rows import Bench, PatientRows, SubjectRows
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.summary import summarise, summarise_volumes
from xray2ctpa_core.evaluation.volumes import METRICS, make_instruments

#: Called with (what, done, of).
Progress = Callable[[str, int, int], None]
Named = list[tuple[str, EvaluatedPipeline]]
#: People of whom something can be said: one is measured, another makes the baselines.
LEAST_PEOPLE = 2


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured.

    Attributes:
        images: unseen patients, and people, whose volumes are compared.
        multi: how many of the patients are sampled several times; people are all.
        samples: volumes averaged for those.
        auroc: unseen patients of the PE classification.
        radiographs: real radiographs taken of each folder of them.
        steps: sampling steps; 0 for the bundle's own.
        seed: each patient's seed comes from it and the patient's name.
        split, train_split: names of the splits measured on and taken for the baselines.
        metrics: of METRICS, what is measured beside the rest; "planes" of people always.
        weights: folder of I3D_FILE, INCEPTION_FILE and ALEXNET_FILE; "" for none, or torch.hub's AlexNet.
    """

    images: int = 60
    multi: int = 20
    samples: int = 8
    auroc: int = 200
    radiographs: int = 20
    steps: int = 0
    seed: int = 0
    split: str = "test"
    train_split: str = "train"
    metrics: tuple[str, ...] = ()
    weights: str = ""

    def __post_init__(self) -> None:
        counts = (self.images, self.multi, self.auroc, self.radiographs, self.steps, self.seed)
        if min(counts) < 0 or self.samples < 2 or self.multi > self.images:
            raise ConfigError(f"Expected counts of at least 0, samples >= 2 and multi <= images, got {self}.")
        if not set(self.metrics) <= set(METRICS):
            raise ConfigError(f"Expected metrics of {', '.join(METRICS)}, got {', '.join(self.metrics)}.")


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
) -> dict[str, Any]:
    """Measures every pipeline on whom it has not seen, beside the baselines.

    Args:
        cohort: folder whose virtual patients of ``config.split`` are measured on; None for none.
        train: folder whose patients of ``config.train_split`` make the baselines; None for ``cohort``.
        pipelines: one a bundle.
        config: how much is measured.
        pairs: folders of real pairs, each measured by ``evaluate_pair``.
        out: folder that keeps rows.jsonl and baselines.npz; a later call goes on from them.
        progress: called with (what, done, of).
        radiographs: folders of real radiographs, each measured by ``evaluate_radiographs``.
        people: folders of real people's CTs, measured by ``evaluate_people``.

    Returns:
        ``settings``, ``bundles``, ``features`` (that set distances were taken in), ``people`` (None without),
        ``pairs``, ``radiographs`` and the lists of ``summarise``; JSON-ready.

    Raises:
        InputError: no cohort, no patients of a split, patients seen in training, or one class alone.
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
    patients = cohort_patients(cohort, config.split)
    training = cohort_patients(train or cohort, config.train_split)
    chosen = patients[: max(config.images, config.auroc)]
    check_apart(chosen, training)
    if config.auroc:
        check_both_classes(patients[: config.auroc])
    instruments = make_instruments(config.metrics, Path(config.weights) if config.weights else None)
    others = group_identity(training)
    cache = None if out is None else out / "baselines.npz"
    baselines = Baselines(training, others, cache, lambda done, of: report("training patients", done, of))
    bench = Bench(others, baselines, store, instruments, config.samples, config.steps or None, config.seed)
    rows: list[Row] = []
    for number, patient in enumerate(chosen):
        measured = PatientRows(CohortPatient(patient.folder), bench)  # its voxels are forgotten with it
        for name, pipeline in named:
            if number < config.images:
                rows += measured.images(name, pipeline, several=number < config.multi)
                rows += measured.heat(name, pipeline)
            if number < config.auroc:
                rows.append(measured.classification(name, pipeline))
        report("unseen patients", number + 1, len(chosen))
    identities = {"patients": group_identity(chosen), "training": others}
    return summarise(rows, points, config.samples), baselines.mean, identities, instruments.titles


def evaluate_people(
    folders: Sequence[Path],
    named: Named,
    config: EvaluationConfig,
    store: RowStore,
    report: Progress,
) -> dict[str, Any]:
    """Every pipeline on people who taught it nothing, beside the mean volume and the nearest radiograph of
    the other people.

    Args:
        folders: CTs of people, a file each, in folders of any depth.
        named: (label, pipeline); the people who taught a bundle (``taught_people``) are neither measured nor
            in its baselines.
        config: ``images`` people are measured, taken evenly by name; all of the others make the baselines.
        store: of rows.
        report: progress.

    Returns:
        JSON-ready: ``people`` (measured, by bundle), ``left_out`` (who taught it, by bundle), ``enhanced``
        (names), ``features``, and the lists of ``summarise_volumes``.

    Raises:
        InputError: fewer than LEAST_PEOPLE who taught a bundle nothing, or a CT that cannot be read.
    """
    metrics = tuple(dict.fromkeys((*config.metrics, "planes")))
    instruments = make_instruments(metrics, Path(config.weights) if config.weights else None)
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


def labels(pipelines: Sequence[EvaluatedPipeline]) -> list[str]:
    """Names of the pipelines' bundles, with digits of their weights where two share one."""
    names = [pipeline.bundle.name for pipeline in pipelines]
    return [
        name if names.count(name) == 1 else f"{name} {weights_id(pipeline.bundle)[:6]}"
        for name, pipeline in zip(names, pipelines, strict=True)
    ]
