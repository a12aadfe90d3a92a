"""An arm: one evaluated model's folder, with arm.json and predictions.csv, pairs.csv or both.

A model's generated volumes and their classification may be in two folders of the same name, one of each kind.

predictions.csv: patient, fold, split (validation or test), label (0 or 1), score (higher = more likely PE).
pairs.csv: patient, real, generated and, where there is one, gradcam: NIfTI files relative to the folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xray2ctpa_core import config as configuration
from xray2ctpa_core.data.sources.table import Row, read_table
from xray2ctpa_core.data.splits import TEST, VALIDATION
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.training.arms import ARM_FILE, PAIRS_FILE, PREDICTIONS_FILE

FEATURES_FILE = "features.npz"
KINDS = ("classifier", "generator")


@dataclass(frozen=True)
class ArmDescription:
    """arm.json: the arm's name in a table's definition, "classifier" or "generator", and its data set."""

    name: str = ""
    kind: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class Prediction:
    """One row of predictions.csv; ``where`` is its table and row, for messages."""

    patient: str
    fold: int
    split: str
    label: int
    score: float
    where: str


@dataclass(frozen=True)
class Pair:
    """One row of pairs.csv: the patient's own volume, the generated one and its Grad-CAM map, if any."""

    patient: str
    real: Path
    generated: Path
    gradcam: Path | None
    where: str


@dataclass(frozen=True)
class Arm:
    """One evaluated model; its tables are read and checked on first use.

    Attributes:
        folders: of its files, one, or one of each kind.
        description: of the first folder's arm.json.
    """

    folders: tuple[Path, ...]
    description: ArmDescription

    @property
    def name(self) -> str:
        """Its name in a table's definition."""
        return self.description.name

    def file(self, name: str) -> Path | None:
        """The first file of this name in its folders, if any."""
        return next((folder / name for folder in self.folders if (folder / name).is_file()), None)

    @cached_property
    def predictions(self) -> list[Prediction]:
        """The rows of predictions.csv, checked (``read_predictions``); none without the file."""
        path = self.file(PREDICTIONS_FILE)
        return [] if path is None else read_predictions(path)

    @cached_property
    def pairs(self) -> list[Pair]:
        """The rows of pairs.csv, checked (``read_pairs``); none without the file."""
        path = self.file(PAIRS_FILE)
        return [] if path is None else read_pairs(path)


def read_arm(folder: Path) -> Arm:
    """The arm in ``folder``.

    Raises:
        InputError: no arm.json, unknown or missing keys, another kind, or neither of its two tables.
    """
    path = folder / ARM_FILE
    try:
        description = configuration.load(ArmDescription, path)
    except ConfigError as error:
        raise InputError(f"Expected an arm's {ARM_FILE}, got {path}: {error.message}", error.hint) from error
    if not (description.name and description.dataset) or description.kind not in KINDS:
        raise InputError(
            f"Expected name, dataset and kind ({' or '.join(KINDS)}) in {path}, got {description}."
        )
    tables = {"classifier": PREDICTIONS_FILE, "generator": PAIRS_FILE}
    if not any((folder / table).is_file() for table in tables.values()):
        raise InputError(f"Expected {tables[description.kind]} in {folder}, which is a {description.kind}.")
    return Arm((folder,), description)


def find_arms(roots: Sequence[Path], dataset: str = "") -> list[Arm]:
    """The arms in and below ``roots``, in the order of their paths.

    Args:
        roots: folders of one arm or of many.
        dataset: takes only the arms of this data set.

    Raises:
        InputError: a root that is no folder, no arm at all, a damaged arm, or one name twice in one kind or
            in two data sets.
    """
    arms: dict[str, dict[str, Arm]] = {}
    for root in roots:
        if not root.is_dir():
            raise InputError(f"Expected a folder of evaluated arms, got {root}, which is none.")
        for path in sorted(root.rglob(ARM_FILE)):
            arm = read_arm(path.parent)
            if dataset and arm.description.dataset != dataset:
                continue
            kinds = arms.setdefault(arm.name, {})
            other = kinds.setdefault(arm.description.kind, arm)
            if other.folders != arm.folders or len({a.description.dataset for a in kinds.values()}) > 1:
                folders = sorted({*(folder for a in kinds.values() for folder in a.folders), path.parent})
                raise InputError(
                    f"Expected each arm once, got {arm.name} in {' and in '.join(map(str, folders))}.",
                    "Rename one, or take one data set alone.",
                )
    if not arms:
        raise InputError(
            f"Expected folders with {ARM_FILE} below {', '.join(map(str, roots))}"
            + (f", of the data set {dataset}" if dataset else "")
            + ", got none."
        )
    return [
        Arm(tuple(folder for arm in kinds.values() for folder in arm.folders), first.description)
        for kinds in arms.values()
        for first in list(kinds.values())[:1]
    ]


def read_predictions(path: Path) -> list[Prediction]:
    """The rows of a predictions.csv.

    Raises:
        InputError: it names file and row: columns missing, a label that is not 0 or 1, a score that is no
            finite number, another split, a patient twice in a fold (so also in validation and test), tested
            twice or with two labels, an empty fold, a fold without test patients, or one whose validation
            patients are all of one class.
    """
    rows = [_prediction(row) for row in read_table(path, ("patient", "fold", "split", "label", "score"))]
    in_fold: dict[tuple[str, int], Prediction] = {}
    tested: dict[str, Prediction] = {}
    first: dict[str, Prediction] = {}
    for row in rows:
        other = in_fold.setdefault((row.patient, row.fold), row)
        if other is not row:
            raise InputError(
                f"Expected each patient once in a fold, got {row.patient} in {other.split} ({other.where}) "
                f"and in {row.split} ({row.where})."
            )
        if row.split == TEST and (other := tested.setdefault(row.patient, row)) is not row:
            raise InputError(
                f"Expected each patient tested once, got {row.patient} in {other.where} and in {row.where}."
            )
        other = first.setdefault(row.patient, row)
        if other.label != row.label:
            raise InputError(
                f"Expected one label a patient, got {other.label} for {row.patient} in {other.where} and "
                f"{row.label} in {row.where}."
            )
    _check_prediction_folds(rows, path.name)
    return rows


def read_pairs(path: Path) -> list[Pair]:
    """The rows of a pairs.csv.

    Raises:
        InputError: columns missing, a patient twice, or a file that is not there. It names file and row.
    """
    pairs: dict[str, Pair] = {}
    for row in read_table(path, ("patient", "real", "generated")):
        files = {name: _file(path.parent, row, name) for name in ("real", "generated")}
        heat = _file(path.parent, row, "gradcam") if row.optional("gradcam") else None
        pair = Pair(row.text("patient"), files["real"], files["generated"], heat, row.where)
        other = pairs.setdefault(pair.patient, pair)
        if other is not pair:
            raise InputError(
                f"Expected each patient once, got {pair.patient} in {other.where} and {pair.where}."
            )
    return list(pairs.values())


def _prediction(row: Row) -> Prediction:
    if row.text("split") not in (VALIDATION, TEST):
        raise InputError(
            f"Expected {VALIDATION} or {TEST} in column split, got {row.text('split')!r} in {row.where}."
        )
    score = row.number_in("score")
    return Prediction(row.text("patient"), _fold(row), row.text("split"), _label(row), score, row.where)


def _label(row: Row) -> int:
    label = row.label("label")
    assert label is not None  # ZERO_OR_ONE holds no None
    return label


def _fold(row: Row) -> int:
    if not row.text("fold").isdecimal():
        raise InputError(
            f"Expected a whole number from 0 in column fold, got {row.text('fold')!r} in {row.where}."
        )
    return int(row.text("fold"))


def _check_prediction_folds(rows: Sequence[Prediction], table: str) -> None:
    last = max(rows, key=lambda row: row.fold)
    for fold in range(last.fold + 1):
        members = [row for row in rows if row.fold == fold]
        if not any(row.split == TEST for row in members):
            raise InputError(
                f"Expected test patients in every fold from 0 to {last.fold}, got none in fold {fold} of "
                f"{table} (the highest fold is in {last.where})."
            )
        held = [row for row in members if row.split == VALIDATION]
        if held and len({row.label for row in held}) == 1:
            raise InputError(
                f"Expected both labels among the validation patients of fold {fold}, got {held[0].label} "
                f"alone ({held[0].where}, and {len(held) - 1} more): no threshold can be chosen there."
            )


def _file(folder: Path, row: Row, column: str) -> Path:
    path = folder / row.text(column)
    if not path.is_file():
        raise InputError(
            f"Expected a file in column {column}, got {row.text(column)} in {row.where}: not there."
        )
    return path
