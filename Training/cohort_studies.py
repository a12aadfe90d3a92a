"""Hands virtual patients over as a data set: studies.csv, which train_paper.py reads, from three cohorts.

python Training/cohort_studies.py --out runs/virtual/data --set train=300 calibration=60 test=120

Nothing is copied: the table names the cohorts' own files. What a cohort is for says the split: train teaches,
calibration chooses thresholds ("valid"), test judges.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import run_stage
from xray2ctpa_core.data.cohort_studies import COHORT_SPLITS, study_name
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.simulation.build import CTPA_FILE, FILM_FILE, patient_folders, read_record
from xray2ctpa_core.training.arms import write_table

TABLE_FILE = "studies.csv"
COLUMNS = ("id", "patient", "volume", "radiograph", "label", "split")


@dataclass(frozen=True)
class Config:
    """cohort: folder of make_cohort.py; train, calibration, test: patients to take of each cohort, from the
    first; 0 for all."""

    cohort: str = "runs/default/cohort"
    train: int = 0
    calibration: int = 0
    test: int = 0


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - made in a second
    """Writes ``out``/studies.csv; a patient's study is called COHORT-NUMBER."""
    rows = []
    for cohort, split in COHORT_SPLITS.items():
        count = getattr(config, cohort)
        folders = patient_folders(Path(config.cohort) / cohort)
        if not 0 <= count <= len(folders):
            raise InputError(f"Expected 0 to {len(folders)} patients of the cohort {cohort}, got {count}.")
        for folder in folders[: count or None]:
            name = study_name(cohort, folder)
            files = [os.path.relpath(folder / file, out) for file in (CTPA_FILE, FILM_FILE)]
            rows.append((name, name, *files, int(read_record(folder)["pe"]), split))
    write_table(out / TABLE_FILE, COLUMNS, rows)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"train": 2, "calibration": 2, "test": 2}))
