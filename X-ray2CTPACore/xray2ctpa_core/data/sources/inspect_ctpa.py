"""INSPECT (Huang et al., NeurIPS 2023): CTPA as NIfTI, with tables of labels, studies and splits."""

from pathlib import Path

from xray2ctpa_core.data.sources.files import VOLUME_SUFFIXES, named_file, without_suffix
from xray2ctpa_core.data.sources.study import Study, check_studies
from xray2ctpa_core.data.sources.table import ZERO_OR_ONE, Row, read_table
from xray2ctpa_core.errors import InputError

IMPRESSION, PERSON, IMAGE, SPLIT = "impression_id", "person_id", "image_id", "split"
#: The release's label of embolism, extracted from the reports.
DEFAULT_LABEL = "pe_positive_nlp"
#: Values of a label; "Censored" marks unknown ones.
WORDS: dict[str, int | None] = {
    **ZERO_OR_ONE, "True": 1, "False": 0, "TRUE": 1, "FALSE": 0, "Censored": None, "": None,
}  # fmt: skip
VOLUME_FOLDER = "CTPA"


def read_inspect(
    root: Path, table: Path | None = None, label: str = "", check_files: bool = True
) -> list[Study]:
    """Studies of ``root``/CTPA/<image_id>.nii.gz in the order of the labels.

    Two forms are accepted: the release's tables in ``root``, joined by ``impression_id``: labels_*.tsv
    (label), study_mapping_*.tsv (person_id, image_id) and splits_*.tsv (split); or one ``table`` with
    image_id, person_id, the label and, optionally, split.

    Args:
        root: folder with the tables and the folder CTPA (or the volumes themselves).
        table: the one table, or None for the release's.
        label: column of the label, "" for DEFAULT_LABEL.
        check_files: whether missing volumes are an error.

    Raises:
        InputError: a table or column missing, a label that is no truth value, a study without mapping or
            split, a patient in two splits, missing volumes; names file and row.
    """
    root, label = Path(root), label or DEFAULT_LABEL
    volumes = root / VOLUME_FOLDER if (root / VOLUME_FOLDER).is_dir() else root
    if table is not None:
        rows = [(row, row, row) for row in read_table(table, (IMAGE, PERSON, label))]
    else:
        rows = _joined(root, label)
    studies = []
    for labelled, mapped, divided in rows:
        image = without_suffix(mapped.text(IMAGE))
        volume = named_file(volumes, image, VOLUME_SUFFIXES, mapped.where)
        value = labelled.label(label, WORDS)
        split = divided.optional(SPLIT)
        studies.append(Study(image, mapped.text(PERSON), volume, None, value, split, labelled.where))
    return check_studies(studies, check_files)


def _joined(root: Path, label: str) -> list[tuple[Row, Row, Row]]:
    """(label, mapping, split) rows of each impression that all three tables have, in the labels' order.

    A study without image, which is not part of the release's image cohort, is left out, and so is a repeated
    row.
    """
    labels = read_table(_table(root, "labels"), (IMPRESSION, label))
    mapping = _by_impression(read_table(_table(root, "study_mapping"), (IMPRESSION, PERSON, IMAGE)))
    splits = _by_impression(read_table(_table(root, "splits"), (IMPRESSION, SPLIT)))
    joined = {}
    for row in labels:
        impression = row.text(IMPRESSION)
        if impression in joined:
            continue
        for name, other in (("study_mapping", mapping), ("splits", splits)):
            if impression not in other:
                raise InputError(f"Expected {impression} of {row.where} in {name}, got no such row.")
        if mapping[impression].optional(IMAGE):
            joined[impression] = (row, mapping[impression], splits[impression])
    return list(joined.values())


def _by_impression(rows: list[Row]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.text(IMPRESSION), row)
    return found


def _table(root: Path, stem: str) -> Path:
    """The release's newest table of that name, e.g. labels_20250611.tsv or labels.csv."""
    found = sorted(p for p in root.glob(f"{stem}*") if p.suffix.lower() in (".tsv", ".csv"))
    if not found:
        raise InputError(f"Expected {stem}_*.tsv in {root}, got none.", "Give INSPECT's folder, or a table.")
    return found[-1]
