"""The study index: a CSV with a row for each study; every data set is converted to it, every step reads
it."""

import os
from collections.abc import Sequence
from pathlib import Path

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.data.sources.table import csv_text

INDEX_FILE = "studies.csv"
#: Cells of file columns may be empty, and columns that are empty in all rows may be absent. Paths are
#: relative to the index, or absolute.
INDEX_COLUMNS = ("patient", "study", "split", "label", "radiograph", "volume", "map", "findings")


def write_index(path: Path, studies: Sequence[Study]) -> None:
    """Writes the index ``path`` of ``studies`` atomically."""
    path = Path(path)

    def cell(file: Path | None) -> str:
        return "" if file is None else Path(os.path.relpath(file, path.parent)).as_posix()

    rows = [
        [
            study.patient,
            study.id,
            study.split or "",
            "" if study.label is None else str(study.label),
            *(cell(file) for file in (study.radiograph, study.volume, study.map, study.findings)),
        ]
        for study in studies
    ]
    write_text_atomically(path, csv_text(INDEX_COLUMNS, rows))


def read_index(path: Path, check_files: bool = True) -> list[Study]:
    """The studies of the index ``path``, in order; raises the errors of `read_folder`."""
    return read_folder(Path(path).parent, Path(path), check_files=check_files)
