"""Bundles on the stored test split of the open pairs: real radiographs, real CTs of the same patients.

Radiograph and CT differ in inspiration, arms and posture, and lie in different frames. Each is framed by its
own lungs (a similarity: one scale, one shift), so that voxels can be compared at all. Beside voxel metrics
stand those that need no correspondence of voxels: shape and size of lungs and heart, the distribution of
slices, and whether a generated volume fits its own patient better than the other ones.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.data.open_pairs.prepare import STUDIES_FILE
from xray2ctpa_core.data.open_pairs.table import TABLE_FILE, read_pairs
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.data.splits import TEST
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.baselines import INDEX_PIXELS, Baselines
from xray2ctpa_core.evaluation.columns import CORRELATION, SHARE
from xray2ctpa_core.evaluation.config import EvaluationConfig
from xray2ctpa_core.evaluation.instruments import make_instruments
from xray2ctpa_core.evaluation.numbers import by_patient, entry
from xray2ctpa_core.evaluation.organs import Organs, summarise_organs
from xray2ctpa_core.evaluation.patients import group_identity
from xray2ctpa_core.evaluation.people import Person
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, volumes_id
from xray2ctpa_core.evaluation.rows import MEAN_VOLUME, NEAREST, ONE_SAMPLE, TRUTH, Bench, SubjectRows
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.summary import summarise_volumes
from xray2ctpa_core.io.grid_file import grid_sha256, is_grid_file
from xray2ctpa_core.io.provenance import file_sha256, files_sha256
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.metrics.intervals import Interval, mean_interval
from xray2ctpa_core.metrics.projection import normalised_cross_correlation
from xray2ctpa_core.pipelines.bundle import GeometryRule
from xray2ctpa_core.volume import FrontalFrame, Radiograph

#: From a radiograph to the square of its lungs.
Locate = Callable[[Radiograph], FrontalFrame]
Progress = Callable[[str, int, int], None]
#: Of the protocol (docs/open-pairs.md); raised when a number's definition changes.
PROTOCOL = "3"
#: JSON schema of evaluation.json.
SCHEMA_FILE = Path(__file__).with_name("evaluation.schema.json")
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
        self.name, self.patient = study.id, study.patient
        self._study, self._radiograph, self._locate = study, study.radiograph, locate

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

    def fresh(self) -> "PairedPerson":
        """The same, nothing read: hundreds of CTs would fill the memory."""
        return PairedPerson(self._study, self._geometry, self._locate)

    @cached_property
    def organs(self) -> Organs:
        """Of the CT in the frame."""
        return Organs(self.hu, self.volume.spacing)


def _digest(path: Path) -> str:
    if path.is_file():
        return grid_sha256(path) if is_grid_file(path) else file_sha256(path)
    return files_sha256(sorted(file for file in path.rglob("*") if file.is_file()))


def evaluate_open_pairs(
    cohort: Path,
    named: Sequence[tuple[str, EvaluatedPipeline]],
    config: EvaluationConfig,
    store: RowStore,
    report: Progress,
    locate: Locate | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Every pipeline on the test split, beside the mean volume and the nearest radiograph of all others.

    Args:
        cohort: folder that Training/open_pairs.py prepared.
        named: (label, pipeline).
        config: how many pairs of the test split, and how often each is sampled.
        store: of rows.
        report: progress.
        locate: of the radiographs; None takes each pipeline's own framing.
        cache: folder that keeps the baselines; a later call goes on from them.

    Returns:
        JSON-ready, as SCHEMA_FILE says: ``protocol``, ``selection`` and ``cohort`` (SHA-256 of pairs.csv,
        None without, and of studies.csv), ``pairs`` (measured), ``matches`` (right patient against wrong
        ones), ``organs`` (shape and size of lungs and heart), and the lists of ``summarise_volumes``.

    Raises:
        InputError: no cohort, one whose studies are not those of its selection or have other splits, fewer
            than two patients of the test split, or none of the others.
    """
    table = cohort / STUDIES_FILE
    studies = read_folder(cohort, table)
    selection = _selection(cohort, studies)
    instruments = make_instruments((*config.metrics, "planes"), config.weights)
    rows: list[Row] = []
    organs: list[Row] = []
    matches = []
    measured: list[str] = []
    for name, pipeline in named:
        place = locate or _own_framing(pipeline)
        people = [PairedPerson(study, pipeline.bundle.geometry, place) for study in studies]
        tested = [p for p, s in zip(people, studies, strict=True) if s.split == TEST]
        tested = tested[: config.open_pairs or None]
        others = [p for p, s in zip(people, studies, strict=True) if s.split != TEST]
        patients = [person.patient for person in tested]
        if len(set(patients)) < 2 or not others:
            raise InputError(
                f"Expected two patients or more of the test split and one of the others in {table}, got "
                f"{len(set(patients))} and {len({person.patient for person in others})}.",
                "Fetch and prepare more pairs.",
            )
        identity = group_identity(others)
        kept = None if cache is None else cache / f"baselines-{identity}.npz"
        baselines = Baselines(others, identity, kept, lambda done, of: report("other patients", done, of))
        bench = Bench(
            identity, baselines, store, instruments, config.samples, config.steps or None, config.seed
        )
        pairing = _Pairing(tested, bench)
        fits = []
        for number, person in enumerate(tested, 1):
            subject, whose = SubjectRows(person, bench), {"patient": person.patient}
            rows += [row | whose for row in subject.images(name, pipeline, several=True)]
            fits.append(pairing.fits(number - 1, subject, pipeline))
            organs += [{"bundle": name} | whose | row for row in pairing.organs(person, subject, pipeline)]
            report("open pairs", number, len(tested))
        matches.append({"bundle": name, "method": ONE_SAMPLE} | _matches(np.array(fits), patients))
        measured = [person.name for person in tested]
    return {
        "protocol": PROTOCOL,
        "selection": selection,
        "cohort": file_sha256(table),
        "pairs": measured,
        "weights": {name: volumes_id(pipeline.bundle) for name, pipeline in named},
        "matches": matches,
        "organs": summarise_organs(organs),
        "features": instruments.titles,
        **summarise_volumes(rows, [name for name, _ in named], config.samples),
    }


def _selection(cohort: Path, studies: Sequence[Study]) -> str | None:
    """SHA-256 of the selection, whose pairs and splits the studies must have; None where there is none."""
    if not (cohort / TABLE_FILE).is_file():
        return None
    stored = {pair.id: pair.split for pair in read_pairs(cohort)}
    for study in studies:
        if stored.get(study.id) != study.split:
            raise InputError(
                f"Expected the pairs and splits of {TABLE_FILE}, got {study.id} of the split {study.split}, "
                f"there {stored.get(study.id, 'missing')} ({study.where}).",
                f"Make {STUDIES_FILE} anew: open_pairs.py prepare.",
            )
    return file_sha256(cohort / TABLE_FILE)


def _own_framing(pipeline: Any) -> Locate:
    return lambda radiograph: pipeline.framing(radiograph).frame


class _Pairing:
    """What is measured of one sample beside voxels: kept in the store like any row.

    Args:
        tested: everybody who is measured.
        bench: what all share.
    """

    def __init__(self, tested: Sequence[PairedPerson], bench: Bench) -> None:
        self._tested, self._bench = tested, bench
        self._group = group_identity(tested)

    @cached_property
    def _truths(self) -> list[np.ndarray]:
        return [np.clip(person.hu, *_CORRELATED_HU) for person in self._tested]

    def fits(self, number: int, subject: SubjectRows, pipeline: EvaluatedPipeline) -> list[float]:
        """Correlation of the sample with everybody's CT; place 0 is the own."""

        def measure() -> Row:
            made = np.clip(subject.sample(pipeline), *_CORRELATED_HU)
            found = [_correlation(made, truth) for truth in self._truths]
            return {"fits": [found[number], *found[:number], *found[number + 1 :]]}

        fits: list[float] = self._bench.store.get(
            f"{subject.sampling_key('fits', pipeline)}/{self._group}", measure
        )["fits"]
        return fits

    def organs(self, person: PairedPerson, subject: SubjectRows, pipeline: EvaluatedPipeline) -> list[Row]:
        """A row for each baseline, the sample and the own CT."""

        def measure() -> Row:
            spacing, truth = person.volume.spacing, person.organs
            nearest = self._bench.compared.nearest(person.frame_image(INDEX_PIXELS))
            made = {
                MEAN_VOLUME: self._bench.compared.mean,
                NEAREST: nearest.hu,
                ONE_SAMPLE: subject.sample(pipeline),
            }
            rows = {method: Organs(hu, spacing).beside(truth) for method, hu in made.items()}
            return rows | {TRUTH: truth.sizes}

        key = f"{subject.sampling_key('organs', pipeline)}/{self._bench.others}"
        return [{"method": method} | row for method, row in self._bench.store.get(key, measure).items()]


def _correlation(made: np.ndarray, truth: np.ndarray) -> float:
    """Of two volumes; 0 where one is flat, which fits nobody."""
    value = normalised_cross_correlation(made, truth)
    return 0.0 if np.isnan(value) else value


def _matches(fits: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    """How much better a volume fits its own patient than the others: correlations, and the share of other
    patients' CTs that it fits less, 0.5 by chance; means over patients with intervals.

    Args:
        fits: (pairs, pairs) correlations; column 0 is that with the own CT, then those with the others'.
        patients: of each pair.
    """
    names = np.array(patients)
    rows = []
    for number, (right, *others) in enumerate(fits):
        wrong = np.array(others)[np.delete(names, number) != names[number]]
        share = (wrong < right).mean() + 0.5 * (wrong == right).mean()
        rows.append({"patient": patients[number], "right": right, "wrong": wrong.mean(), "share": share})
    kept = by_patient(rows).values()
    found = {}
    for name, limits in {"right": CORRELATION, "wrong": CORRELATION, "share": SHARE}.items():
        interval = mean_interval(np.array([row[name] for row in kept]))
        ends = (float(np.clip(end, *limits)) for end in (interval.lower, interval.upper))
        found[name] = entry((Interval(interval.estimate, *ends), len(kept)))
    return found
