"""The definition of tables by arms and numbers: a JSON file, checked; unknown keys are errors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from xray2ctpa_core import config as configuration
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.columns import SET_FEATURES, VOLUME_COLUMNS

T = TypeVar("T")

#: Column of a table -> its heading; fvd and fid take the title of the network that gave the features.
CLASSIFIER_COLUMNS = {
    "auroc": "AUROC, all test patients, ranked within folds (DeLong)",
    "auroc_folds": "AUROC, mean over folds",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "accuracy",
    "brier": "Brier score, Platt-scaled",
    "ece": "calibration error, Platt-scaled",
    "brier_raw": "Brier score, as given",
    "ece_raw": "calibration error, as given",
}
GENERATOR_COLUMNS = {name: column.heading for name, column in VOLUME_COLUMNS.items()} | {
    name: name.upper() if name in ("fvd", "fid") else f"Fréchet distance, {name}" for name in SET_FEATURES
}
COLUMNS = CLASSIFIER_COLUMNS | GENERATOR_COLUMNS
#: Columns in which two arms can be compared.
COMPARED = ("auroc", "accuracy", *VOLUME_COLUMNS)


@dataclass(frozen=True)
class TableRow:
    """One row.

    Attributes:
        label: text of the row.
        arm: name of the arm that fills it; "" for a row that only reports.
        reported: column -> the number as printed in a publication; never mixed with measured numbers.
        source: of ``reported``.
    """

    label: str = ""
    arm: str = ""
    reported: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class TableDefinition:
    """One table.

    Attributes:
        number: in its name and title.
        title: what it compares.
        metrics: its columns, keys of COLUMNS.
        rows: from top to bottom.
        reference: arm that the others are compared with; "" for none.
        compare: in which of COMPARED.
        note: sentences below the table.
    """

    number: int = 0
    title: str = ""
    metrics: tuple[str, ...] = ()
    rows: tuple[TableRow, ...] = ()
    reference: str = ""
    compare: tuple[str, ...] = ()
    note: str = ""


def digits_of(column: str) -> int:
    """Digits after the point that a column shows."""
    if column in SET_FEATURES:
        return 2
    return VOLUME_COLUMNS[column].digits if column in VOLUME_COLUMNS else 3


def read_definitions(path: Path) -> list[TableDefinition]:
    """The tables of a definition file: {"tables": [{number, title, metrics, rows, ...}, ...]}.

    Raises:
        ConfigError: no such file, unknown keys or columns, a number twice, a reference that is in no row, or
            reported numbers without their source. It names the file and the table.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read the tables' definition {path}: {error}.") from error
    if not isinstance(content, dict) or set(content) != {"tables"} or not isinstance(content["tables"], list):
        raise ConfigError(f'Expected {{"tables": [...]}} in {path}.')
    tables = [_table(entry, f"{path.name}, table {n}") for n, entry in enumerate(content["tables"], 1)]
    numbers = [table.number for table in tables]
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"Expected each table's number once in {path}, got {numbers}.")
    return tables


def _table(entry: Any, where: str) -> TableDefinition:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected an object, got {type(entry).__name__}.")
    rows = tuple(
        _made(TableRow, row, f"{where}, row {number}") for number, row in enumerate(entry.get("rows", []), 1)
    )
    table = _made(TableDefinition, entry | {"rows": list(rows)}, where)
    if table.number < 1 or not table.title or not table.metrics or not rows:
        raise ConfigError(f"{where}: expected a number from 1, a title, metrics and rows.")
    for number, row in enumerate(rows, 1):
        _check_columns(tuple(row.reported), tuple(COLUMNS), f"{where}, row {number}: reported")
        if not all(isinstance(value, str) for value in row.reported.values()):
            raise ConfigError(
                f"{where}, row {number}: expected what is reported as text, got {row.reported}."
            )
        if not row.label or (row.reported and not row.source):
            raise ConfigError(f"{where}, row {number}: expected a label, and a source of what is reported.")
    _check_columns(table.metrics, tuple(COLUMNS), f"{where}: metrics")
    _check_columns(table.compare, COMPARED, f"{where}: compare")
    if bool(table.reference) != bool(table.compare):
        raise ConfigError(f"{where}: expected reference and compare together.")
    if table.reference and table.reference not in {row.arm for row in rows}:
        raise ConfigError(f"{where}: expected the reference {table.reference} to be the arm of a row.")
    return table


def _made(cls: type[T], entry: Any, where: str) -> T:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected an object, got {type(entry).__name__}.")
    try:
        return configuration.from_mapping(cls, entry)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.hint) from error


def _check_columns(names: tuple[str, ...], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown or len(set(names)) < len(names):
        raise ConfigError(
            f"{where}: expected each of {', '.join(known)} at most once, got {', '.join(names)}."
        )
