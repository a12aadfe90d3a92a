"""Stage 1: makes the three cohorts of virtual patients: training, calibration, test.

python Training/make_cohort.py --out runs/default/cohort
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.simulation.build import build_cohort


@dataclass(frozen=True)
class Config:
    """Patients of each cohort; each cohort has a seed of its own, so that no patient is in two of them.
    workers: processes; 0 for one a processor."""

    train: int = 900
    calibration: int = 80
    test: int = 200
    train_seed: int = 1
    calibration_seed: int = 2
    test_seed: int = 3
    workers: int = 0


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes ``out``/train, calibration and test; always goes on with what is there (same seed)."""
    cohorts = {
        "train": (config.train, config.train_seed),
        "calibration": (config.calibration, config.calibration_seed),
        "test": (config.test, config.test_seed),
    }
    workers = config.workers or os.cpu_count() or 1
    for name, (patients, seed) in cohorts.items():
        if patients:
            summary = build_cohort(out / name, patients, seed, workers, Bar(f"cohort ({name})"))
            print("\n".join([name, *summary.summary_lines()]))


if __name__ == "__main__":
    tiny = {"train": 1, "calibration": 0, "test": 0, "workers": 1}
    sys.exit(run_stage(__doc__, Config, run, tiny))
