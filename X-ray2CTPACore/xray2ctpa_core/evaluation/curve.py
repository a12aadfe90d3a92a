"""Quality against the number of sampling steps, compared with the papers' ancestral DDPM sampler."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.columns import VOLUME_COLUMNS
from xray2ctpa_core.evaluation.instruments import make_instruments
from xray2ctpa_core.evaluation.markdown import table
from xray2ctpa_core.evaluation.numbers import by_patient, entries, mean_of, paired_difference_of
from xray2ctpa_core.evaluation.patients import CohortPatient, cohort_patients, group_identity, seed_of
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, to_array, volumes_id, weights_id
from xray2ctpa_core.evaluation.report import interval_text
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.volumes import VolumeMeter
from xray2ctpa_core.pipelines.bundle import (
    STEP_CURVE,
    BundleInfo,
    PresetSteps,
    read_bundle_json,
    write_bundle_json,
)
from xray2ctpa_core.wording import counted

#: Columns of the curve, of VOLUME_COLUMNS; the first two depend most on the position of the anatomy.
COLUMNS = ("psnr", "parallel_correlation", "ssim", "perceptual")
PLACE_COLUMNS = COLUMNS[:2]
#: Column for the bundle's own sampler only: with too few steps samples are similar, near the expectation.
SPREAD = "spread"
#: Share of the spread at the largest number of steps that Standard must reach.
LEAST_SPREAD = 0.95
REFERENCE_SCHEDULER = "ddpm"
#: Part of every row's key; increased when the definition of a number changes.
MEASURES = "curve 3"
NOTE = (
    "One sample a patient, mean [95 % t interval over patients]; the same patients and seeds on"
    " every line. In brackets after it: the paired difference from the reference sampler, which draws fresh "
    "noise at every step. Spread: of two samples, the root mean square over the volume of their standard "
    "deviation. Standard is the fewest steps whose four means are no worse than the reference's interval and"
    f" whose spread is at least {LEAST_SPREAD:.0%} of that of the most steps, Preview the fewest of which "
    "PSNR and correlation with the radiograph are; where none is, the most steps that were measured."
)


class CurvePipeline(EvaluatedPipeline, Protocol):
    """A pipeline whose sampler can be swapped."""

    def set_scheduler(self, name: str) -> None:
        """Sets another sampler for the same noise schedule."""


@dataclass(frozen=True)
class CurveConfig:
    """Settings of a curve.

    Attributes:
        steps: numbers of steps, rising.
        reference_steps: of the ancestral DDPM sampler.
        patients: number of unseen patients of ``split``.
        seed: each patient's seed is derived from it and the patient's name.
    """

    steps: tuple[int, ...]
    reference_steps: int = 1000
    patients: int = 12
    seed: int = 0
    split: str = "test"

    def __post_init__(self) -> None:
        if not self.steps or min(*self.steps, self.reference_steps, self.patients) < 1:
            raise ConfigError(f"Expected steps and patients of at least 1, got {self}.")


def measure_curve(
    cohort: Path,
    pipeline: CurvePipeline,
    config: CurveConfig,
    out: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    reference: CurvePipeline | None = None,
) -> dict[str, Any]:
    """Measures two samples for each patient and number of steps by the bundle's own sampler, and one by the
    reference sampler.

    Args:
        cohort: folder of `xray2ctpa cohort`, of patients that no part of the bundle was trained on.
        pipeline: of the bundle; its own scheduler is restored at the end, also that of ``reference``.
        config: see the class.
        out: folder of curve-rows.jsonl, from which a later call continues.
        progress: called with (what, done, of).
        reference: pipeline whose volumes by REFERENCE_SCHEDULER are the reference; None takes ``pipeline``.
            A few-step denoiser needs its teacher's, because that sampler cannot use it.

    Returns:
        JSON-ready: bundle, patients, ``points`` (scheduler, steps, an interval for each column and for its
        ``difference`` from the reference; the reference is the last and has no ``spread``) and ``presets``.

    Raises:
        InputError: no cohort, or no patients of the split.
    """
    patients = cohort_patients(cohort, config.split)[: config.patients]
    reference = reference or pipeline
    own = pipeline.bundle.sampling.scheduler
    samplers = [*((own, steps) for steps in config.steps), (REFERENCE_SCHEDULER, config.reference_steps)]
    store = RowStore(None if out is None else out / "curve-rows.jsonl")
    instruments = make_instruments()
    lower, upper = pipeline.bundle.hu_window
    rows: dict[tuple[str, int], list[Row]] = {sampler: [] for sampler in samplers}
    done = 0
    try:
        for patient in patients:
            patient = patient.fresh()
            meter = VolumeMeter(patient.volume, (lower, upper), instruments, patient.frame_image)
            for sampler in samplers:
                teacher = sampler == samplers[-1]
                source, samples = (reference, 1) if teacher else (pipeline, 2)
                rows[sampler].append(_row(patient, source, sampler, samples, config.seed, meter, store))
                done += 1
                if progress is not None:
                    progress("volumes", done, len(patients) * len(samplers))
    finally:
        for used in (pipeline, reference):
            used.set_scheduler(used.bundle.sampling.scheduler)
    points = [_point(sampler, rows[sampler], rows[samplers[-1]]) for sampler in samplers]
    return {
        "bundle": f"{pipeline.bundle.name} {pipeline.bundle.version} {weights_id(pipeline.bundle)}",
        "patients": group_identity(patients),
        "points": points,
        "presets": asdict(preset_steps(points)),
    }


def preset_steps(points: Sequence[dict[str, Any]]) -> PresetSteps:
    """The steps of the presets by NOTE's rule; ``points`` of ``measure_curve``, the reference last."""
    *own, reference = points
    most = own[-1]

    def fewest(candidates: Sequence[dict[str, Any]], columns: Sequence[str]) -> int:
        good = (p["steps"] for p in candidates if all(_no_worse(p, reference, column) for column in columns))
        return int(next(good, most["steps"]))

    spread_out = [p for p in own if p[SPREAD]["estimate"] >= LEAST_SPREAD * most[SPREAD]["estimate"]]
    preview = fewest(own, PLACE_COLUMNS)
    return PresetSteps(preview, fewest(spread_out, COLUMNS), most["steps"])


def markdown(curve: dict[str, Any]) -> str:
    """The curve as a table, and the presets that follow from it."""
    headings = [
        "sampler",
        "steps",
        "n",
        *(VOLUME_COLUMNS[column].heading for column in COLUMNS),
        "spread, HU",
    ]
    lines = (
        [
            p["scheduler"],
            str(p["steps"]),
            str(p["n"]),
            *(_cell(p, column) for column in COLUMNS),
            interval_text(p[SPREAD], 1) if SPREAD in p else "-",
        ]
        for p in curve["points"]
    )
    presets = curve["presets"]
    chosen = ", ".join(f"{name.capitalize()} {counted(steps, 'step')}" for name, steps in presets.items())
    parts = [
        f"## Quality against steps: {curve['bundle']}",
        table(headings, lines),
        f"Presets: {chosen}.",
        NOTE,
    ]
    return "\n\n".join(parts) + "\n"


def store_curve(folder: Path, curve: dict[str, Any]) -> BundleInfo:
    """Saves the presets and the means of the curve in the bundle's metrics; its digest changes.

    Raises:
        BundleError: the folder holds no intact bundle.
    """
    info = read_bundle_json(folder)
    means = {
        f"{p['scheduler']} {p['steps']}": {
            column: round(p[column]["estimate"], 4) for column in (*COLUMNS, SPREAD) if column in p
        }
        for p in curve["points"]
    }
    kept = {"presets": curve["presets"], "patients": curve["points"][0]["n"], "points": means}
    return write_bundle_json(folder, dataclasses.replace(info, metrics=info.metrics | {STEP_CURVE: kept}))


def _row(
    patient: CohortPatient,
    pipeline: CurvePipeline,
    sampler: tuple[str, int],
    samples: int,
    seed: int,
    meter: VolumeMeter,
    store: RowStore,
) -> Row:
    scheduler, steps = sampler

    def make() -> Row:
        pipeline.set_scheduler(scheduler)
        result = pipeline(
            patient.radiograph,
            frame=patient.frame,
            num_samples=samples,
            num_inference_steps=steps,
            seed=seed_of(patient, seed),
            output_samples=True,
        )
        volumes = to_array(result.samples)
        measured = meter.measure(volumes[0])
        row = {"patient": patient.identity} | {column: measured[column] for column in COLUMNS}
        if samples > 1:
            row[SPREAD] = float(np.sqrt(volumes.var(0).mean()))
        return row

    weights = volumes_id(pipeline.bundle)
    return store.get(f"{MEASURES}/{patient.identity}/{weights}/{scheduler} {steps}/seed {seed}", make)


def _point(sampler: tuple[str, int], rows: Sequence[Row], reference: Sequence[Row]) -> dict[str, Any]:
    sides = by_patient(rows), by_patient(reference)
    return {
        "scheduler": sampler[0],
        "steps": sampler[1],
        "n": len(rows),
        **entries({column: mean_of(rows, column) for column in (*COLUMNS, SPREAD)}),
        "difference": entries({column: paired_difference_of(*sides, column) for column in COLUMNS}),
    }


def _no_worse(point: dict[str, Any], reference: dict[str, Any], column: str) -> bool:
    """Whether a point's mean is within the reference's interval or better; without an interval it is
    compared with the reference's mean."""
    estimate, held = point[column]["estimate"], reference[column]
    # The column has no preferred direction; here, more agreement with the radiograph is better.
    if VOLUME_COLUMNS[column].higher_is_better is not False:
        return bool(estimate >= (held["estimate"] if held["lower"] is None else held["lower"]))
    return bool(estimate <= (held["estimate"] if held["upper"] is None else held["upper"]))


def _cell(point: dict[str, Any], column: str) -> str:
    digits = VOLUME_COLUMNS[column].digits
    text = interval_text(point[column], digits)
    return f"{text} ({interval_text(point['difference'][column], digits, signed=True)})"
