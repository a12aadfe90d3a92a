"""Stratified cross-validation by patient: six folds as in the papers, each with both classes.

In turn each fold is the test set and the next one validation (where thresholds are chosen); the others train.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.datasets.studies.table import Row, csv_text, read_table
from xray2ctpa_core.errors import InputError

#: X-ray2CTPA's statistics: stratified six-fold cross-validation.
FOLDS = 6
COLUMNS = ("patient", "label", "fold")
#: Rows that an error names before it says how many more there are.
NAMED_ROWS = 5


@dataclass(frozen=True)
class FoldRow:
    """One study's patient, label (0 or 1) and fold (from 0); ``where`` is its table and row, for messages."""

    patient: str
    label: int
    fold: int
    where: str


def assign_folds(table: Path, folds: int = FOLDS, seed: int = 0) -> list[FoldRow]:
    """Folds for the rows of a table, as even in number and share of label 1 as whole patients allow.

    scikit-learn's StratifiedGroupKFold with the patient as the group.

    Args:
        table: .csv or .tsv with the columns patient and label (0 or 1); other columns may be there, a patient
            may have several rows.
        folds: at least 3, for training, validation and test.
        seed: the same seed and table give the same folds.

    Raises:
        InputError: no such table, a label that is not 0 or 1, too few patients of a class, or a fold that
            came out empty or with one class. It names file and rows.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if folds < 3:
        raise InputError(f"Expected at least 3 folds (training, validation, test), got {folds}.")
    rows = read_table(table, ("patient", "label"))
    patients = [row.text("patient") for row in rows]
    labels = [label_of(row) for row in rows]
    for label in (0, 1):
        count = len({p for p, value in zip(patients, labels, strict=True) if value == label})
        if count < folds:
            found = [row for row, value in zip(rows, labels, strict=True) if value == label]
            raise InputError(
                f"Expected at least {folds} patients with label {label} for {folds} folds, got {count} in "
                f"{_places(table.name, [row.number for row in found])}.",
                "Choose fewer folds or add patients.",
            )
    assigned = np.zeros(len(rows), dtype=int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(rows)), labels, patients)):
        assigned[test] = number
    found_rows = [
        FoldRow(patient, label, int(fold), row.where)
        for patient, label, fold, row in zip(patients, labels, assigned, rows, strict=True)
    ]
    return check_folds(found_rows, folds, table.name)


def read_folds(table: Path) -> list[FoldRow]:
    """The rows of a table of COLUMNS, as ``write_folds`` makes it.

    Raises:
        InputError: no such table, a label that is not 0 or 1, a fold that is no whole number, an empty fold,
            a fold with one class, or a patient in two folds. It names file and rows.
    """
    rows = [
        FoldRow(row.text("patient"), label_of(row), fold_of(row), row.where)
        for row in read_table(table, COLUMNS)
    ]
    return check_folds(rows, max(row.fold for row in rows) + 1, table.name)


def write_folds(rows: Iterable[FoldRow], path: Path) -> None:
    """Writes the table of COLUMNS, all of it or nothing."""
    write_text_atomically(path, csv_text(COLUMNS, ([r.patient, str(r.label), str(r.fold)] for r in rows)))


def role_in(fold: int, test_fold: int, folds: int) -> str:
    """What the patients of ``fold`` are while ``test_fold`` is tested: "train", "validation" or "test"."""
    if fold == test_fold:
        return "test"
    return "validation" if fold == (test_fold + 1) % folds else "train"


def check_folds(rows: Sequence[FoldRow], folds: int, table: str) -> list[FoldRow]:
    """The rows as a list, where every fold has both classes and every patient is in one fold.

    Raises:
        InputError: otherwise; it names ``table`` and rows.
    """
    first_of: dict[str, FoldRow] = {}
    for row in rows:
        other = first_of.setdefault(row.patient, row)
        if other.fold != row.fold:
            raise InputError(
                f"Expected each patient in one fold, got {row.patient} in fold {other.fold} ({other.where}) "
                f"and in fold {row.fold} ({row.where})."
            )
    for fold in range(folds):
        members = [row for row in rows if row.fold == fold]
        if not members:
            raise InputError(
                f"Expected patients in every fold from 0 to {folds - 1}, got none in fold {fold} of {table} "
                f"(the highest fold is in {max(rows, key=lambda row: row.fold).where})."
            )
        if len({row.label for row in members}) == 1:
            raise InputError(
                f"Expected both labels in every fold, got label {members[0].label} alone in fold {fold} "
                f"({members[0].where}" + (f", and {len(members) - 1} more)." if len(members) > 1 else ").")
            )
    return list(rows)


def label_of(row: Row) -> int:
    """The row's label, 0 or 1; raises InputError for anything else, with file and row."""
    label = row.label("label")
    assert label is not None  # ZERO_OR_ONE holds no None
    return label


def fold_of(row: Row) -> int:
    """The row's fold, a whole number from 0; raises InputError for anything else, with file and row."""
    if not row.text("fold").isdecimal():
        raise InputError(
            f"Expected a whole number from 0 in column fold, got {row.text('fold')!r} in {row.where}."
        )
    return int(row.text("fold"))


def _places(table: str, numbers: Sequence[int]) -> str:
    """ "labels.csv, rows 2, 5 and 9": at most NAMED_ROWS of them, then how many more."""
    if not numbers:
        return table
    named = ", ".join(str(number) for number in numbers[:NAMED_ROWS])
    more = len(numbers) - NAMED_ROWS
    return f"{table}, row(s) {named}" + (f" and {more} more" if more > 0 else "")
