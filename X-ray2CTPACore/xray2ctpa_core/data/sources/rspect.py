"""RSPECT (RSNA-STR pulmonary embolism CT, Colak et al., Radiol Artif Intell 2021): DICOM, train.csv."""

import functools
from pathlib import Path

from xray2ctpa_core.data.sources.study import Study, check_studies
from xray2ctpa_core.data.sources.table import Row, table_rows
from xray2ctpa_core.errors import InputError

STUDY, SERIES, IMAGE = "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"
NEGATIVE, INDETERMINATE = "negative_exam_for_pe", "indeterminate"


def read_rspect(
    root: Path, table: Path, indeterminate_as_pe: bool = False, check_files: bool = True
) -> list[Study]:
    """Studies of ``root``/StudyInstanceUID/SeriesInstanceUID/*.dcm in the table's order.

    The table has one row for each image; ``negative_exam_for_pe`` belongs to the examination, and the label
    is 1 minus it. An indeterminate examination is neither negative nor shows an embolus: its label is
    unknown, or 1 with ``indeterminate_as_pe``, as in the papers. RSPECT has no patient ids, so that each
    examination counts as a patient, and no splits.

    Args:
        root: folder of the examinations' folders.
        table: train.csv.
        indeterminate_as_pe: whether indeterminate examinations have the label 1.
        check_files: whether missing folders and, where the table names images, missing slices are an error.

    Raises:
        InputError: wrong columns, a label that is not 0 or 1, contradictory rows of one examination, missing
            files; names file and row.
    """
    first: dict[tuple[str, str], tuple[Row, int | None]] = {}
    # The table's 1.8 million rows are ordered by series, so that a small cache of listings suffices.
    images_in = functools.lru_cache(maxsize=4)(_images)
    for row in table_rows(table, (STUDY, SERIES, NEGATIVE)):
        key = (row.text(STUDY), row.text(SERIES))
        label = _label(row, indeterminate_as_pe)
        former, former_label = first.setdefault(key, (row, label))
        if label != former_label:
            raise InputError(
                f"Expected one label for examination {key[0]}, got {former_label} in {former.where} and "
                f"{label} in {row.where}."
            )
        if check_files and IMAGE in row:
            folder = Path(root) / key[0] / key[1]
            _check_image(folder, images_in(folder), row)
    series_of: dict[str, int] = {}
    for study_uid, _ in first:
        series_of[study_uid] = series_of.get(study_uid, 0) + 1
    studies = []
    for (study_uid, series_uid), (row, label) in first.items():
        folder = Path(root) / study_uid / series_uid
        name = study_uid if series_of[study_uid] == 1 else f"{study_uid}-{series_uid}"
        studies.append(Study(name, study_uid, folder, None, label, None, row.where))
    return check_studies(studies, check_files)


def _label(row: Row, indeterminate_as_pe: bool) -> int | None:
    negative = row.label(NEGATIVE)
    if INDETERMINATE in row and row.label(INDETERMINATE) and not indeterminate_as_pe:
        return None
    return 0 if negative else 1


def _check_image(folder: Path, present: frozenset[str], row: Row) -> None:
    """Raises InputError where the row's image is not ``present`` in a series that is there."""
    if present and row.text(IMAGE) not in present:
        raise InputError(
            f"Expected {row.text(IMAGE)}.dcm in {folder}, got no such file ({row.where}).",
            "Get the missing slice, or pass check_files=false.",
        )


def _images(folder: Path) -> frozenset[str]:
    """Names of a folder's files without suffix; none where there is no folder."""
    return frozenset(path.stem for path in folder.iterdir()) if folder.is_dir() else frozenset()
