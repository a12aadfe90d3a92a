"""CT-RATE (Hamamci et al., 2024): chest CT as NIfTI in patient/scan folders, with tables of volume names."""

import re
from pathlib import Path

from xray2ctpa_core.data.sources.study import Study, check_studies
from xray2ctpa_core.data.sources.table import Row, read_table
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import HeaderCorrection

VOLUME = "VolumeName"
SLOPE, INTERCEPT, IN_PLANE, BETWEEN = "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing"
_NAME = re.compile(r"(?P<split>[A-Za-z]+)_(?P<patient>\d+)_(?P<scan>[A-Za-z]+)_(?P<number>\d+)\.nii(\.gz)?")


def read_ct_rate(
    root: Path, table: Path, metadata: Path | None = None, label: str = "", check_files: bool = True
) -> list[Study]:
    """Volumes of ``root``/train_1/train_1_a/train_1_a_1.nii.gz in the table's order.

    A name contains split, patient, scan and reconstruction. CT-RATE has no label of embolism (most scans are
    without contrast); another column may be used as label.

    Args:
        root: folder of the patients' folders; or the folder above, with a folder for each split (train,
            valid, train_fixed, valid_fixed).
        table: any table of the release with ``VolumeName``, e.g. train_predicted_labels.csv.
        metadata: train_metadata.csv, with RescaleSlope, RescaleIntercept, XYSpacing and ZSpacing: needed for
            the first release, whose files hold neither; None for the corrected one (``*_fixed``).
        label: column of 0 and 1, "" for none.
        check_files: whether missing volumes are an error.

    Raises:
        InputError: wrong columns or names, a label that is not 0 or 1, missing volumes; names file and row.
    """
    rows = read_table(table, (VOLUME, *([label] if label else [])))
    headers = _headers(metadata)
    studies = []
    for row in rows:
        name = row.text(VOLUME)
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise InputError(f"Expected a name like train_1_a_1.nii.gz, got {name} in {row.where}.")
        if metadata is not None and name not in headers:
            raise InputError(f"Expected {name} of {row.where} in {metadata.name}, got no such row.")
        patient = f"{parts['split']}_{parts['patient']}"
        within = Path(patient) / f"{patient}_{parts['scan']}" / name
        volume = _found(Path(root), parts["split"], within)
        value = row.label(label) if label else None
        where, header = row.where, headers.get(name)
        case = name.partition(".")[0]
        studies.append(Study(case, patient, volume, None, value, parts["split"], where, header))
    return check_studies(studies, check_files)


def _found(root: Path, split: str, within: Path) -> Path:
    """The volume below ``root`` or a split's folder in it; ``root``/``within`` where there is none."""
    places = [root / within, *(root / folder / within for folder in (f"{split}_fixed", split))]
    return next((place for place in places if place.is_file()), places[0])


def _headers(metadata: Path | None) -> dict[str, HeaderCorrection]:
    if metadata is None:
        return {}
    rows = read_table(metadata, (VOLUME, SLOPE, INTERCEPT, IN_PLANE, BETWEEN))
    return {row.text(VOLUME): _correction(row) for row in rows}


def _correction(row: Row) -> HeaderCorrection:
    """Scale and spacing of a row; XYSpacing has the form "[0.75, 0.75]", as (row, column)."""
    numbers = re.findall(r"[-+0-9.eE]+", row.text(IN_PLANE))
    try:
        between_rows, between_columns = (float(number) for number in numbers)
    except ValueError:
        between_rows = between_columns = 0.0
    spacing = (between_columns, between_rows, row.number_in(BETWEEN))
    if min(spacing) <= 0:
        raise InputError(
            f"Expected positive {IN_PLANE} and {BETWEEN}, got {row.text(IN_PLANE)} and {row.text(BETWEEN)} "
            f"in {row.where}."
        )
    return HeaderCorrection(row.number_in(SLOPE), row.number_in(INTERCEPT), spacing)
