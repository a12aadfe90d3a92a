"""The arm of a bundle: its volumes and its PE probability for the test studies of virtual patients.

A radiograph of a virtual patient has no size in mm. As in the evaluation of bundles, the patient's true frame
is used, and the volume gets the position of the patient's CTPA. It is then resampled to the grid of the real
volume from which the latents were made.
"""

from pathlib import Path

import numpy as np

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.cohort_studies import patient_folder
from xray2ctpa_core.data.latent_cases import LatentCase, first_volumes, read_latent_cases
from xray2ctpa_core.data.splits import TEST, VALIDATION, by_split
from xray2ctpa_core.evaluation.patients import CohortPatient, seed_of
from xray2ctpa_core.evaluation.tables.writing import write_generator_arm
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.preprocessing.grid import resized_affine
from xray2ctpa_core.training.arms import prediction_rows, write_predictions
from xray2ctpa_core.training.settings.tables import BundleArmSettings
from xray2ctpa_core.volume import Volume


def run(config: BundleArmSettings, out: Path) -> None:
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
    write_generator_arm(out, config.name, config.dataset, chosen[TEST], make, Bar(TEST), config.hu_window)
    rows = [
        row
        for split, cases in chosen.items()
        for row in prediction_rows(cases, np.array([scores[case.row] for case in cases]), 0, split)
    ]
    write_predictions(out, rows)


def generated(
    pipeline: XRay2CTPAPipeline, config: BundleArmSettings, case: LatentCase
) -> tuple[Volume, float]:
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
