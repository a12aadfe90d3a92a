"""Fetches openly licensed chest CTs from the Imaging Data Commons, by their series' identifiers.

A series becomes NAME.nii.gz (int16 HU) and a line of ATTRIBUTION.csv; series under a non-commercial licence
go to noncommercial/, which training does not read. Needs the package idc-index and the network.
"""

import csv
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.training.settings.people import FetchTemplatesSettings

COLUMNS = ("name", "series_instance_uid", "licence", "doi")
NONCOMMERCIAL = "noncommercial"


def run(config: FetchTemplatesSettings, out: Path) -> None:
    """Fetches every series of the table."""
    table = Path(config.table) if config.table else Path(__file__).resolve().parents[1] / "templates.csv"
    fetch(read_table(table), out, idc_download, Bar("templates"))


def read_table(table: Path) -> list[dict[str, str]]:
    """Rows of the table.

    Raises:
        InputError: no such table, a missing column, a repeated name, or a missing licence.
    """
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"Expected a table of series in {table}, got: {error.strerror}.") from error
    if not rows or any(column not in rows[0] for column in COLUMNS):
        raise InputError(f"Expected the columns {', '.join(COLUMNS)} in {table}.")
    names = [row["name"] for row in rows]
    if len(set(names)) < len(names) or not all(row["licence"] for row in rows):
        raise InputError(f"Expected unique names, and a licence in each row of {table}.")
    return rows


def fetch(
    rows: list[dict[str, str]],
    out: Path,
    download: Callable[[str, Path], None],
    progress: Callable[[int, int], None],
) -> None:
    """Writes a NIfTI file for each series, and the list of credits.

    Args:
        rows: of `read_table`.
        out: folder.
        download: downloads a series' DICOM files into a folder.
        progress: called with (done, total).
    """
    out.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        folder = out / NONCOMMERCIAL if re.search(r"\bNC\b", row["licence"], re.IGNORECASE) else out
        folder.mkdir(exist_ok=True)
        target = folder / f"{row['name']}.nii.gz"
        if not target.exists():
            with tempfile.TemporaryDirectory() as scratch:
                download(row["series_instance_uid"], Path(scratch))
                write_volume(read_ct(Path(scratch)).volume, target, np.int16)
        progress(number + 1, len(rows))
    with (out / "ATTRIBUTION.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def idc_download(series_instance_uid: str, folder: Path) -> None:
    """Downloads one series. Raises InputError without the package idc-index."""
    try:
        from idc_index import IDCClient
    except ModuleNotFoundError as error:
        raise InputError(
            "Fetching needs the package idc-index, which is not installed.", "pip install idc-index"
        ) from error
    IDCClient().download_dicom_series(
        seriesInstanceUID=series_instance_uid, downloadDir=str(folder), quiet=True
    )
