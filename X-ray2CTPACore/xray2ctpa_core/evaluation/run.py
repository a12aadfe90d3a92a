"""The evaluation of bundles on a cohort: every row measured once, then summed up."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, weights_id
from xray2ctpa_core.evaluation.radiographs import evaluate_films
from xray2ctpa_core.evaluation.rows import Bench, PatientRows
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.summary import summarise
from xray2ctpa_core.metrics.features import FeatureNetwork, clip_network, slice_network
from xray2ctpa_core.metrics.perceptual import (
    ALEXNET_FILE,
    LPIPSDistance,
    PerceptualDistance,
    lpips_if_available,
)

#: What is measured on demand: it needs weights that are not embedded, or a named substitute of them.
METRICS = ("fvd", "fid", "lpips")
#: Called with (what, done, of).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured.

    Attributes:
        images: unseen patients whose volumes are compared.
        multi: how many of them are sampled several times.
        samples: volumes averaged for those.
        auroc: unseen patients of the PE classification.
        films: real radiographs taken of each folder of them.
        steps: sampling steps; 0 for the bundle's own.
        seed: each patient's seed comes from it and the patient's name.
        split, train_split: names of the splits measured on and taken for the baselines.
        metrics: of METRICS, what is measured beside the rest.
        weights: folder of I3D_FILE, INCEPTION_FILE and ALEXNET_FILE; "" for none, or torch.hub's AlexNet.
    """

    images: int = 60
    multi: int = 20
    samples: int = 8
    auroc: int = 200
    films: int = 20
    steps: int = 0
    seed: int = 0
    split: str = "test"
    train_split: str = "train"
    metrics: tuple[str, ...] = ()
    weights: str = ""

    def __post_init__(self) -> None:
        counts = (self.images, self.multi, self.auroc, self.films, self.steps, self.seed)
        if min(counts) < 0 or self.samples < 2 or self.multi > self.images:
            raise ConfigError(f"Expected counts of at least 0, samples >= 2 and multi <= images, got {self}.")
        if not set(self.metrics) <= set(METRICS):
            raise ConfigError(f"Expected metrics of {', '.join(METRICS)}, got {', '.join(self.metrics)}.")


def evaluate(
    cohort: Path,
    train: Path,
    pipelines: Sequence[EvaluatedPipeline],
    config: EvaluationConfig,
    pairs: Sequence[Path] = (),
    out: Path | None = None,
    progress: Progress | None = None,
    films: Sequence[Path] = (),
) -> dict[str, Any]:
    """Measures every pipeline on unseen patients, beside the baselines.

    Args:
        cohort: folder whose patients of ``config.split`` are measured on.
        train: folder whose patients of ``config.train_split`` make the baselines.
        pipelines: one a bundle.
        config: how much is measured.
        pairs: folders of real pairs, each measured by ``evaluate_pair``.
        out: folder that keeps rows.jsonl and baselines.npz; a later call goes on from them.
        progress: called with (what, done, of).
        films: folders of real radiographs, each measured by ``evaluate_films``.

    Returns:
        ``settings``, ``bundles``, ``features`` (that fvd and fid were taken in), ``pairs``, ``films`` and the
        lists of ``summarise``; JSON-ready.

    Raises:
        InputError: no cohort, no patients of a split, patients seen in training, or one class alone.
    """
    if not pipelines:
        raise InputError("Expected at least one bundle to evaluate, got none.")
    patients = cohort_patients(cohort, config.split)
    training = cohort_patients(train, config.train_split)
    chosen = patients[: max(config.images, config.auroc)]
    check_apart(chosen, training)
    if config.auroc:
        check_both_classes(patients[: config.auroc])
    report = progress or (lambda _what, _done, _of: None)
    baselines = Baselines(
        training,
        None if out is None else out / "baselines.npz",
        lambda done, of: report("training patients", done, of),
    )
    perceptual = PerceptualDistance()
    lpips, networks = _on_demand(config, perceptual)
    bench = Bench(
        train=group_identity(training),
        baselines=baselines,
        store=RowStore(None if out is None else out / "rows.jsonl"),
        perceptual=perceptual,
        lpips=lpips,
        networks=networks,
        samples=config.samples,
        steps=config.steps or None,
        seed=config.seed,
    )
    named = list(zip(labels(pipelines), pipelines, strict=True))
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
    settings = {name: value for name, value in asdict(config).items() if name != "weights"}
    summary = {
        "settings": settings
        | {"metrics": list(config.metrics)}
        | {"patients": group_identity(chosen), "training": bench.train},
        "bundles": {name: f"{p.bundle.version} {weights_id(p.bundle)}" for name, p in named},
        "features": {metric: network.title for metric, network in networks.items()},
    }
    measured_pairs = [
        evaluate_pair(pair, named, baselines.mean, config.steps, config.samples, config.seed)
        for pair in pairs
    ]
    measured_films = [
        evaluate_films(
            folder,
            named,
            config.films,
            config.steps,
            config.seed,
            lambda done, of: report("real radiographs", done, of),
        )
        for folder in films
    ]
    real = {"pairs": measured_pairs, "films": measured_films}
    points = {name: pipeline.bundle.pe for name, pipeline in named}
    return summary | summarise(rows, points, config.samples) | real


def _on_demand(
    config: EvaluationConfig, perceptual: PerceptualDistance
) -> tuple[LPIPSDistance | None, dict[str, FeatureNetwork]]:
    """LPIPS, and the networks of fvd and fid as asked for; raises InputError where LPIPS cannot be had."""
    weights = Path(config.weights) if config.weights else None
    makers = {"fvd": clip_network, "fid": slice_network}
    networks = {name: make(weights, perceptual) for name, make in makers.items() if name in config.metrics}
    if "lpips" not in config.metrics:
        return lpips_if_available(weights), networks
    return LPIPSDistance(None if weights is None else weights / ALEXNET_FILE), networks


def labels(pipelines: Sequence[EvaluatedPipeline]) -> list[str]:
    """Names of the pipelines' bundles, with digits of their weights where two share one."""
    names = [pipeline.bundle.name for pipeline in pipelines]
    return [
        name if names.count(name) == 1 else f"{name} {weights_id(pipeline.bundle)[:6]}"
        for name, pipeline in zip(names, pipelines, strict=True)
    ]
