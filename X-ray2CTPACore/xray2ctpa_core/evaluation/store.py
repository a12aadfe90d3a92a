"""Measured rows in a JSON-lines file, so that a stopped evaluation can be resumed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from xray2ctpa_core.config import append_json_line, read_json_lines
from xray2ctpa_core.errors import InputError

Row = dict[str, Any]


class RowStore:
    """Rows by key; each is computed once and appended to the file at once.

    Args:
        path: JSON-lines file, created if missing; None keeps rows in memory only. An incomplete last line is
            dropped.

    Raises:
        InputError: the file holds something other than rows.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        for number, entry in enumerate([] if path is None else read_json_lines(path), start=1):
            try:
                self._rows[entry["key"]] = dict(entry["row"])
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{path}, line {number}, is no row of an evaluation.",
                    "Remove the file or choose another --out.",
                ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def get(self, key: str, compute: Callable[[], Row]) -> Row:
        """The row of ``key``, computed and appended if it is missing."""
        if key not in self._rows:
            row = compute()
            if self._path is not None:
                append_json_line(self._path, {"key": key, "row": row})
            self._rows[key] = row
        return self._rows[key]
