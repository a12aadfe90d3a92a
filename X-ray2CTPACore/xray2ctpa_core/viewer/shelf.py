"""The results of one visitor, the latest first, until he discards them or the program ends."""

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xray2ctpa_core.errors import InputError

#: Largest number of results of a visitor; each needs a few megabytes on the disk.
MAX_RESULTS = 20


@dataclass(frozen=True)
class Entry:
    """A result.

    Attributes:
        folder: the result.
        name: original name of the radiograph.
        radiograph: the radiograph's file, or None.
        truth: a true CTPA's file, or None.
        owned: folders that are removed with the entry.
        identifier: within the shelf.
        made: local time, HH:MM.
    """

    folder: Path
    name: str
    radiograph: Path | None = None
    truth: Path | None = None
    owned: tuple[Path, ...] = ()
    identifier: str = field(default_factory=lambda: secrets.token_hex(4))
    made: str = field(default_factory=lambda: time.strftime("%H:%M"))


class Shelf:
    """All results of a visitor."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def require_room(self) -> None:
        """Raises InputError if there are already MAX_RESULTS."""
        if len(self._entries) >= MAX_RESULTS:
            raise InputError(
                f"Expected at most {MAX_RESULTS} results, got one more.", "Discard an earlier one first."
            )

    def add(self, entry: Entry) -> None:
        self._entries.insert(0, entry)

    def find(self, identifier: Any) -> Entry:
        """The entry with this identifier; raises InputError if there is none."""
        for entry in self._entries:
            if entry.identifier == identifier:
                return entry
        raise InputError("Expected one of the results in the list, got another.", "Reload the page.")

    def discard(self, entry: Entry) -> None:
        """Removes an entry and its owned folders."""
        self._entries.remove(entry)
        for folder in entry.owned:
            shutil.rmtree(folder, ignore_errors=True)
