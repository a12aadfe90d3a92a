"""Stratified six-fold cross-validation by patient: which fold each patient belongs to.

python Training/make_folds.py --out runs/mine/folds --set table=runs/mine/ctpa/cases.csv

Writes folds.csv (patient, label, fold). While fold k is tested, fold k + 1 validates (thresholds are chosen
there) and the others train.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import run_stage
from xray2ctpa_core.datasets.folds import FOLDS, assign_folds, write_folds

TABLE = "folds.csv"


@dataclass(frozen=True)
class Config:
    """table: CSV or TSV with patient and label (0 or 1); folds: their number; seed: of their drawing."""

    table: str = "runs/default/cases.csv"
    folds: int = FOLDS
    seed: int = 0


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes folds.csv into ``out`` and prints what each fold holds."""
    rows = assign_folds(Path(config.table), config.folds, config.seed)
    write_folds(rows, out / TABLE)
    for fold in range(config.folds):
        members = {row.patient: row.label for row in rows if row.fold == fold}
        print(f"fold {fold}: {len(members)} patients, {sum(members.values())} with label 1")


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {}))
