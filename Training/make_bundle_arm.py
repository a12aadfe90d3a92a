"""The arm of a bundle: its volumes and its PE probability for the test studies of virtual patients.

python Training/make_bundle_arm.py --out runs/virtual/spatial --set bundle=virtual-thorax name=spatial \\
    latents=runs/virtual/latents dataset=virtual

A radiograph of a virtual patient has no size in mm. As in the evaluation of bundles, the patient's true frame
is used, and the volume gets the position of the patient's CTPA. It is then resampled to the grid of the real
volume from which the latents were made.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import DEFAULT_BUNDLE, PAPER_HU_WINDOW
from xray2ctpa_core.data.cohort_studies import patient_folder
from xray2ctpa_core.data.latent_cases import LatentCase, first_volumes, read_latent_cases
from xray2ctpa_core.data.splits import TEST, VALIDATION, by_split
from xray2ctpa_core.evaluation.patients import CohortPatient, seed_of
from xray2ctpa_core.evaluation.tables.writing import write_generator_arm
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.preprocessing.grid import resized_affine
from xray2ctpa_core.training.arms import prediction_rows, write_predictions
from xray2ctpa_core.volume import Volume


@dataclass(frozen=True)
class Config:
    """bundle: name or folder; cohort: folder of the step cohort; latents: folder whose index lists the cases;
    hu_window: HU window to which their volumes were clipped; studies: number of studies of each split, from
    the first, 0 for all; samples: number of samples averaged for PE, of which the first is the volume; seed:
    gives each patient's seed; name, dataset: of the arm."""

    bundle: str = DEFAULT_BUNDLE
    cohort: str = "runs/virtual-pairs/cohort"
    latents: str = "runs/virtual/latents"
    hu_window: tuple[float, float] = PAPER_HU_WINDOW
    studies: int = 0
    samples: int = 1
    seed: int = 0
    name: str = "spatial"
    dataset: str = ""


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - made in minutes
    """Writes volumes/ and pairs.csv of the test studies, and predictions.csv of test and validation
    studies."""
    pipeline = XRay2CTPAPipeline.from_pretrained(config.bundle)
    parts = by_split(read_latent_cases(Path(config.latents), labelled=True), (VALIDATION, TEST))
    chosen = {split: first_volumes(parts[split])[: config.studies or None] for split in (VALIDATION, TEST)}
    scores: dict[int, float] = {}

    def make(case: LatentCase) -> Volume:
        volume, scores[case.row] = generated(pipeline, config, case)
        return volume

    bar = Bar(VALIDATION)
    for number, case in enumerate(chosen[VALIDATION], 1):
        make(case)
        bar(number, len(chosen[VALIDATION]))
    write_generator_arm(out, config.name, config.dataset, chosen[TEST], make, Bar(TEST), (*config.hu_window,))
    rows = [
        row
        for split, cases in chosen.items()
        for row in prediction_rows(cases, np.array([scores[case.row] for case in cases]), 0, split)
    ]
    write_predictions(out, rows)


def generated(pipeline: XRay2CTPAPipeline, config: Config, case: LatentCase) -> tuple[Volume, float]:
    """The bundle's volume in HU at the position of the patient's CTPA, and its PE probability."""
    patient = CohortPatient(patient_folder(Path(config.cohort), case.patient))
    result = pipeline(
        patient.radiograph,
        frame=patient.frame,
        num_samples=config.samples,
        seed=seed_of(patient, config.seed),
    )
    depth, height, width = result.ctpa.array.shape
    place = resized_affine(patient.volume, (depth, height, width))
    return Volume(result.ctpa.array, place), result.pe_probability


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"studies": 1}))
