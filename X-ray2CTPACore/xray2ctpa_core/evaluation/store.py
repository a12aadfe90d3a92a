"""Measured rows in a JSON-lines file, so that a stopped evaluation can be resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        if path is not None and path.is_file():
            self._read(path)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def get(self, key: str, compute: Callable[[], Row]) -> Row:
        """The row of ``key``, computed and appended if it is missing."""
        if key not in self._rows:
            row = compute()
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "row": row}) + "\n")
            self._rows[key] = row
        return self._rows[key]

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        complete, _, rest = text.rpartition("\n")
        for number, line in enumerate(complete.splitlines(), start=1):
            try:
                entry = json.loads(line)
                self._rows[entry["key"]] = dict(entry["row"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number}, is no row of an evaluation.",
                    "Remove the file or choose another --out.",
                ) from error
        if rest:
            path.write_text(complete + "\n" if complete else "", encoding="utf-8")
