"""Evaluated arms: a folder with arm.json and predictions.csv or pairs.csv, which the tables are made from."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xray2ctpa_core.config import write_json, write_text_atomically
from xray2ctpa_core.data.latent_cases import LatentCase
from xray2ctpa_core.data.sources.table import csv_text

ARM_FILE, PREDICTIONS_FILE, PAIRS_FILE = "arm.json", "predictions.csv", "pairs.csv"
PREDICTION_COLUMNS = ("patient", "fold", "split", "label", "score")
PAIR_COLUMNS = ("patient", "real", "generated")
#: Data set of the arms for which none was given; they count as one data set.
UNNAMED = "unnamed"


def write_arm(out: Path, name: str, kind: str, dataset: str) -> None:
    """Writes arm.json into ``out``; ``kind`` is "classifier" or "generator", ``dataset`` may be empty."""
    write_json(out / ARM_FILE, {"name": name, "kind": kind, "dataset": dataset or UNNAMED})


def units(cases: Sequence[LatentCase]) -> list[str]:
    """The name of each case in the tables: its patient, or patient/study where a patient has several."""
    studies: dict[str, set[str]] = {}
    for case in cases:
        studies.setdefault(case.patient, set()).add(case.id)
    return [
        case.patient if len(studies[case.patient]) == 1 else f"{case.patient}/{case.id}" for case in cases
    ]


def prediction_rows(
    cases: Sequence[LatentCase], scores: np.ndarray, fold: int, split: str
) -> list[tuple[str, int, str, int, float]]:
    """Rows with PREDICTION_COLUMNS, one for each study: the mean score of its volumes.

    Args:
        cases: N cases with labels.
        scores: (N,) probabilities of PE, in the order of the cases.
        fold: the held-out fold; 0 without cross-validation.
        split: "validation" or "test".
    """
    of: dict[str, list[float]] = {}
    label: dict[str, int] = {}
    for unit, case, score in zip(units(cases), cases, scores, strict=True):
        of.setdefault(unit, []).append(float(score))
        label[unit] = int(case.label or 0)
    return [(unit, fold, split, label[unit], float(np.mean(values))) for unit, values in of.items()]


def write_predictions(folder: Path, rows: Sequence[Sequence[object]]) -> None:
    """Writes the rows of `prediction_rows` to predictions.csv."""
    write_table(folder / PREDICTIONS_FILE, PREDICTION_COLUMNS, rows)


def write_pairs(folder: Path, rows: Sequence[Sequence[object]]) -> None:
    """Writes rows with PAIR_COLUMNS to pairs.csv; file paths are relative to ``folder``."""
    write_table(folder / PAIRS_FILE, PAIR_COLUMNS, rows)


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Writes a CSV file atomically."""
    write_text_atomically(path, csv_text(columns, rows))


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a table of `write_table`, without its header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]
