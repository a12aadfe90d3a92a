"""Bundles on the stored test split of the open pairs: real radiographs, real CTs of the same patients.

Radiograph and CT differ in inspiration, arms and posture, and lie in different frames. Each is framed by its
own lungs (a similarity: one scale, one shift), so that voxels can be compared at all; beside voxel metrics
stand
those that do not depend on the placement: how large the lungs are, how the slices are distributed, and
    whether
the generated volume fits its own patient better than the other ones.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.data.open_pairs.prepare import STUDIES_FILE
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.data.splits import TEST
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.baselines import Baselines
from xray2ctpa_core.evaluation.config import EvaluationConfig
from xray2ctpa_core.evaluation.patients import group_identity, seed_of
from xray2ctpa_core.evaluation.people import Person
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, to_array, volumes_id
from xray2ctpa_core.evaluation.rows import ONE_SAMPLE, Bench, SubjectRows
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.summary import summarise_volumes
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.provenance import file_sha256, files_sha256
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.metrics.intervals import mean_interval
from xray2ctpa_core.metrics.projection import lung_mask, normalised_cross_correlation
from xray2ctpa_core.pipelines.bundle import GeometryRule
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume

#: From a radiograph to the square of its lungs.
Locate = Callable[[Radiograph], FrontalFrame]
Progress = Callable[[str, int, int], None]
#: Of the protocol (docs/open-pairs.md); raised when a number's definition changes.
PROTOCOL = "1"
#: HU between which volumes of right and wrong patients are correlated.
_CORRELATED_HU = (-1000.0, 400.0)


class PairedPerson(Person):
    """A person whose radiograph is the real one; the CT is framed by its own lungs.

    Args:
        study: with a CT and a radiograph.
        geometry: of the bundle.
        locate: finds the lungs' frame of the radiograph.
    """

    def __init__(self, study: Study, geometry: GeometryRule, locate: Locate) -> None:
        if study.volume is None or study.radiograph is None:
            raise InputError(f"Expected a CT and a radiograph of {study.id}, got not both ({study.where}).")
        super().__init__(study.volume, geometry)
        self.name = study.id
        self._radiograph, self._locate = study.radiograph, locate

    @cached_property
    def identity(self) -> str:
        """12 hex digits of the files of both images and the grid."""
        digests = [_digest(path) for path in (self._file, self._radiograph)]
        text = f"{digests} {self._geometry.grid} {self._geometry.depth_fraction}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def radiograph(self) -> Radiograph:
        """As it is in its file."""
        return read_radiograph(self._radiograph)

    @cached_property
    def frame(self) -> FrontalFrame:
        """Found by the locator, in pixels of the radiograph."""
        return self._locate(self.radiograph)

    def _read(self) -> Volume:
        return read_ct(self._file).volume

    @property
    def lung_litres(self) -> float:
        """Of the CT's lungs in the frame."""
        return litres(self.hu, self.volume.spacing)


def _digest(path: Path) -> str:
    if path.is_file():
        return file_sha256(path)
    return files_sha256(sorted(file for file in path.rglob("*") if file.is_file()))


def litres(hu: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Volume of the lungs in (D, H, W) HU of voxels of ``spacing`` mm."""
    return float(lung_mask(hu).sum() * np.prod(spacing) / 1e6)


def evaluate_open_pairs(
    cohort: Path,
    named: Sequence[tuple[str, EvaluatedPipeline]],
    config: EvaluationConfig,
    store: RowStore,
    report: Progress,
    locate: Locate | None = None,
) -> dict[str, Any]:
    """Every pipeline on the test split, beside the mean volume and the nearest radiograph of all others.

    Args:
        cohort: folder that Training/open_pairs.py prepared.
        named: (label, pipeline).
        config: ``images`` pairs are measured, from the first.
        store: of rows.
        report: progress.
        locate: of the radiographs; None takes each pipeline's own framing.

    Returns:
        JSON-ready: ``protocol``, ``cohort`` (its SHA-256), ``pairs`` (measured), ``matches`` (a dictionary a
        bundle: share of wrong patients that a volume fits less than its own, intervals), ``lungs`` (litres of
        generated and real, mean relative difference), and the lists of ``summarise_volumes``.

    Raises:
        InputError: no cohort, no pair of the test split, or none of the others.
    """
    table = cohort / STUDIES_FILE
    studies = read_folder(cohort, table)
    instruments = config.instruments("planes")
    rows: list[Row] = []
    matches, lungs = [], []
    measured: list[str] = []
    for name, pipeline in named:
        place = locate or _own_framing(pipeline)
        people = [PairedPerson(study, pipeline.bundle.geometry, place) for study in studies]
        tested = [p for p, s in zip(people, studies, strict=True) if s.split == TEST][: config.images]
        others = [p for p, s in zip(people, studies, strict=True) if s.split != TEST]
        if len(tested) < 2 or not others:
            raise InputError(
                f"Expected two pairs or more of the test split and one of the others in {table}, got "
                f"{len(tested)} and {len(others)}.",
                "Fetch and prepare more pairs.",
            )
        identity = group_identity(others)
        baselines = Baselines(others, identity, None, lambda done, of: report("other patients", done, of))
        bench = Bench(
            identity, baselines, store, instruments, config.samples, config.steps or None, config.seed
        )
        for number, person in enumerate(tested, 1):
            rows += SubjectRows(person, bench).images(name, pipeline, several=True)
            report("open pairs", number, len(tested))
        generated = [_sample(pipeline, person, config) for person in tested]
        matches.append({"bundle": name, "method": ONE_SAMPLE} | _matches(generated, tested))
        lungs.append({"bundle": name, "method": ONE_SAMPLE} | _lungs(generated, tested))
        measured = [person.name for person in tested]
    return {
        "protocol": PROTOCOL,
        "cohort": file_sha256(table),
        "pairs": measured,
        "weights": {name: volumes_id(pipeline.bundle) for name, pipeline in named},
        "matches": matches,
        "lungs": lungs,
        "features": instruments.titles,
        **summarise_volumes(rows, [name for name, _ in named], config.samples),
    }


def _own_framing(pipeline: Any) -> Locate:
    return lambda radiograph: pipeline.framing(radiograph).frame


def _sample(pipeline: EvaluatedPipeline, person: PairedPerson, config: EvaluationConfig) -> np.ndarray:
    """(D, H, W) HU: one sample of the person's radiograph."""
    result = pipeline(
        person.radiograph,
        frame=person.frame,
        num_inference_steps=config.steps or None,
        seed=seed_of(person, config.seed),
        output_samples=True,
    )
    if result.samples is None:
        raise InputError("Expected the samples of the pipeline with output_samples=True, got none.")
    return to_array(result.samples)[0]


def _matches(generated: Sequence[np.ndarray], people: Sequence[PairedPerson]) -> dict[str, Any]:
    """How much better a volume fits its own patient than the others: correlations, and the share of wrong
    patients that it fits less, 0.5 by chance; means over patients with intervals."""
    truths = [np.clip(person.hu, *_CORRELATED_HU) for person in people]
    made = [np.clip(volume, *_CORRELATED_HU) for volume in generated]
    table = np.array([[normalised_cross_correlation(m, t) for t in truths] for m in made])
    right = table.diagonal()
    wrong = np.array([np.delete(row, number) for number, row in enumerate(table)])
    share = (wrong < right[:, None]).mean(axis=1) + 0.5 * (wrong == right[:, None]).mean(axis=1)
    numbers = {"right": right, "wrong": wrong.mean(axis=1), "share": share}
    return {name: _interval(values) for name, values in numbers.items()}


def _lungs(generated: Sequence[np.ndarray], people: Sequence[PairedPerson]) -> dict[str, Any]:
    """Litres of generated and real lungs, both in the CT's frame, and the relative difference."""
    made = np.array([litres(v, p.volume.spacing) for v, p in zip(generated, people, strict=True)])
    real = np.array([person.lung_litres for person in people])
    numbers = {"generated": made, "real": real, "difference": made / real - 1}
    return {name: _interval(values) for name, values in numbers.items()}


def _interval(values: np.ndarray) -> dict[str, float]:
    found = mean_interval(values)
    return {
        "estimate": found.estimate,
        "lower": found.lower,
        "upper": found.upper,
        "n": len(values),
    }
