"""Tables in CSV or TSV files; every error names the file and the row number that a spreadsheet shows."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.failures import reading

ZERO_OR_ONE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        cells: value by column, without surrounding blanks.
        table: file name.
        number: row number; the header is row 1.
    """

    cells: Mapping[str, str]
    table: str
    number: int

    @property
    def where(self) -> str:
        """ "train.csv, row 5"."""
        return f"{self.table}, row {self.number}"

    def __contains__(self, column: str) -> bool:
        return column in self.cells

    def text(self, column: str) -> str:
        """The cell; raises InputError where it is empty."""
        if not self.cells[column]:
            raise InputError(f"Expected a value in column {column}, got none in {self.where}.")
        return self.cells[column]

    def optional(self, column: str) -> str | None:
        """The cell, or None where it is empty or the table has no such column."""
        return self.cells.get(column) or None

    def label(self, column: str, words: Mapping[str, int | None] = ZERO_OR_ONE) -> int | None:
        """The cell as one of ``words``; raises InputError for anything else."""
        value = self.cells[column]
        if value not in words:
            raise InputError(f"Expected 0 or 1 in column {column}, got {value!r} in {self.where}.")
        return words[value]

    def number_in(self, column: str) -> float:
        """The cell as a finite number; raises InputError otherwise."""
        try:
            value = float(self.text(column))
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise InputError(
                f"Expected a number in column {column}, got {self.cells[column]!r} in {self.where}."
            )
        return value


def read_table(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """The rows of a table as a list: `table_rows`."""
    return list(table_rows(path, columns))


def table_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a .csv (commas) or .tsv (tabs) file one after another, without empty ones.

    Args:
        path: UTF-8 with or without byte order mark; the first row names the columns.
        columns: required columns; others are allowed.

    Raises:
        InputError: the file is missing, not text or without rows; one of ``columns`` is missing; a column
            occurs twice; or a row has more or fewer cells than there are columns. The message names the row.
    """
    path = Path(path)
    with reading(path, "CSV"):
        file = path.open(encoding="utf-8-sig", newline="")
    number = 1
    with file:
        records = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            names = _names(next(records, []), columns, path.name)
            count = 0
            for number, record in enumerate(records, 2):
                if not any(cell.strip() for cell in record):
                    continue
                if len(record) != len(names):
                    raise InputError(
                        f"Expected {len(names)} cells, got {len(record)} in {path.name}, row {number}.",
                        "Put values that hold the separator into quotation marks.",
                    )
                count += 1
                yield Row(dict(zip(names, map(str.strip, record), strict=True)), path.name, number)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"Expected a CSV file in UTF-8, got {path.name}, damaged after row {number}: {error}.",
                "Save it again as CSV (UTF-8).",
            ) from error
    if not count:
        raise InputError(f"Expected rows below the column names, got none in {path.name}.")


def csv_text(headings: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A table as CSV: commas, quotes where needed, a line feed after each row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([headings, *lines])
    return text.getvalue()


def _names(record: list[str], columns: Sequence[str], table: str) -> list[str]:
    """The columns' names in the first row; raises InputError where one is missing or occurs twice."""
    names = [name.strip() for name in record]
    missing = [column for column in columns if column not in names]
    if missing or len(set(names)) < len(names):
        raise InputError(
            f"Expected the column(s) {', '.join(columns) or 'once each'} in {table}, row 1, got "
            f"{', '.join(names) or 'nothing'}" + (f"; missing: {', '.join(missing)}." if missing else "."),
            "Correct the names in the first row: they are case-sensitive.",
        )
    return names
