"""LIDC-IDRI as The Cancer Imaging Archive's retriever writes it: a tree of DICOM and metadata.csv."""

import os
from pathlib import Path, PurePosixPath

from xray2ctpa_core.data.sources.study import Study, check_studies
from xray2ctpa_core.data.sources.table import Row, read_table

RADIOGRAPHS = ("CR", "DX")
SUBJECT, MODALITY, LOCATION = "Subject ID", "Modality", "File Location"


def read_lidc(root: Path, table: Path, check_files: bool = True) -> list[Study]:
    """One study for each CT series, in the table's order, with its subject's radiograph where there is one.

    Where a subject has several radiograph series, ``radiograph`` is the folder that holds them all; its
    reader chooses the one frontal view. LIDC-IDRI has neither labels of embolism nor splits.

    Args:
        root: folder to which ``File Location`` is relative.
        table: metadata.csv, one row for each series; rows of other modalities (SEG, SR) are skipped.
        check_files: whether missing folders are an error.

    Raises:
        InputError: wrong columns, empty cells, missing folders; names file and row.
    """
    scans: dict[str, list[tuple[Row, Path]]] = {}
    radiographs: dict[str, list[Path]] = {}
    for row in read_table(table, (SUBJECT, MODALITY, LOCATION)):
        modality = row.text(MODALITY).upper()
        if modality == "CT":
            scans.setdefault(row.text(SUBJECT), []).append((row, _location(Path(root), row)))
        elif modality in RADIOGRAPHS:
            radiographs.setdefault(row.text(SUBJECT), []).append(_location(Path(root), row))
    studies = []
    for subject, series in scans.items():
        radiograph = Path(os.path.commonpath(radiographs[subject])) if subject in radiographs else None
        for number, (row, folder) in enumerate(series, 1):
            name = subject if len(series) == 1 else f"{subject}-{number}"
            studies.append(Study(name, subject, folder, radiograph, None, None, row.where))
    return check_studies(studies, check_files)


def _location(root: Path, row: Row) -> Path:
    """``File Location`` below ``root``: "./LIDC-IDRI/LIDC-IDRI-0001/...", on Windows with backslashes."""
    return root / PurePosixPath(row.text(LOCATION).replace("\\", "/"))
