"""Radiographs listed in a file: a result folder for each in one folder, an index, and a list of failures."""

import hashlib
import os
from collections.abc import Generator, Iterable
from pathlib import Path

from xray2ctpa_core.config import write_json_lines, write_text_atomically
from xray2ctpa_core.data.sources.table import csv_text
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.generation.batch import Case
from xray2ctpa_core.io import result_files
from xray2ctpa_core.io.names import stem_of
from xray2ctpa_core.io.result_folder import writing
from xray2ctpa_core.wording import one_line, unreliable

INDEX_FILE, ERRORS_FILE = "index.csv", "errors.jsonl"
COLUMNS = ("radiograph", "result", "pe_probability", "pe_unreliable")


def read_list(path: Path, out: Path, dicom: Path | None = None) -> list[Case]:
    """The cases of a list.

    Args:
        path: text file with one path in each line, relative to the list's own folder; empty lines and lines
            that start with # are ignored; repeated paths count once.
        out: folder of the result folders. Each is named after its radiograph and the digest of its path, so
            that a longer list, or one in another order, finds the existing results.
        dicom: folder of the results as DICOM, or None.

    Raises:
        InputError: there is no such file, or no path in it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputError(f"Expected a list of radiographs, got {path}: {error.strerror}.") from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise InputError(
            f"Expected radiographs in the list {path}, got none.", "Write a path a line into it."
        )
    sources = dict.fromkeys(Path(os.path.normpath(path.absolute().parent / name)) for name in names)
    folders = {source: result_name(source, path.absolute().parent) for source in sources}
    return [Case(source, out / name, dicom and dicom / name) for source, name in folders.items()]


def result_name(source: Path, start: Path) -> str:
    """Name of the result folder of a radiograph: its name, and a digest of its path from ``start``."""
    place = os.path.relpath(source, start) if source.drive == start.drive else str(source)
    digest = hashlib.sha256(os.fsencode(Path(place).as_posix())).hexdigest()[:10]
    return f"{stem_of(source.name)}-{digest}"


class Ledger:
    """The outcomes of the cases of a list, which are written into its folder at the end, however the run
    ends.

    Args:
        out: the folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.failures: list[tuple[Case, XRay2CTPAError]] = []
        self._done: list[Case] = []

    def following(
        self, outcomes: Iterable[tuple[Case, XRay2CTPAError | None]]
    ) -> Generator[tuple[Case, XRay2CTPAError | None], None, None]:
        """Passes the outcomes on and records them; writes both files at their end, or when the run ends
        early."""
        try:
            for case, failure in outcomes:
                if failure is None:
                    self._done.append(case)
                else:
                    self.failures.append((case, failure))
                yield case, failure
        finally:
            self._write()

    def summary_lines(self) -> list[str]:
        """Lines with the number of results, and each failed case."""
        of = len(self._done) + len(self.failures)
        lines = [f"{len(self._done)} of {of} results are complete: {self._out / INDEX_FILE}"]
        if self.failures:
            lines.append(f"{len(self.failures)} failed: {self._out / ERRORS_FILE}")
        lines += [f"  {case.source}: {failure.message}" for case, failure in self.failures]
        return [one_line(line) for line in lines]

    def _write(self) -> None:
        self.failures.sort(key=lambda failure: failure[0].source)
        rows = []
        for case in sorted(self._done, key=lambda case: case.source):
            pe = result_files.read_record(case.target)["pe"]
            rows.append([case.source, case.target.name, pe["probability"], unreliable(pe)])
        errors = [
            {"radiograph": str(case.source), "code": e.exit_code, "message": e.message, "hint": e.hint}
            for case, e in self.failures
        ]
        with writing(self._out):
            write_text_atomically(self._out / INDEX_FILE, csv_text(COLUMNS, rows))
            write_json_lines(self._out / ERRORS_FILE, errors)
