"""Your own data: a folder of volumes, with a table or without."""

from pathlib import Path

from xray2ctpa_core.data.sources.files import RADIOGRAPH_SUFFIXES, VOLUME_SUFFIXES, named_file, without_suffix
from xray2ctpa_core.data.sources.study import Study, check_studies
from xray2ctpa_core.data.sources.table import ZERO_OR_ONE, Row, read_table
from xray2ctpa_core.errors import InputError

PATIENT, VOLUME, RADIOGRAPH, LABEL, SPLIT = "patient", "volume", "radiograph", "label", "split"
#: Column of the study's id, and its name in tables of earlier versions.
STUDY, ID = "study", "id"
MAP, FINDINGS = "map", "findings"
#: The default table of a folder.
TABLE_FILE = "studies.csv"


def read_folder(
    root: Path, table: Path | None = None, radiographs: Path | None = None, check_files: bool = True
) -> list[Study]:
    """The volumes in ``root``.

    Args:
        root: folder; without a table, and without studies.csv in it, each volume file and each subfolder
            (one DICOM series) in it is a study and a patient, sorted by name.
        table: lists the studies instead, in its order. Columns: ``volume`` or ``radiograph`` or both (files
            or folders, with or without suffix); optionally ``study``, ``patient``, ``label`` (0, 1 or empty)
            and ``split``; for virtual patients also ``map`` and ``findings`` (`Study`).
        radiographs: folder of the radiographs, None for ``root``; only with a table.
        check_files: whether missing files are an error.

    Raises:
        InputError: nothing to read, wrong columns, a label that is not 0 or 1, a patient in two splits,
            missing or ambiguous files; names file and row.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"Expected a folder of volumes, got {root}, which is none.", "Set root.")
    if table is None and (root / TABLE_FILE).is_file():
        table = root / TABLE_FILE
    if table is not None:
        rows = read_table(table)
        if VOLUME not in rows[0] and RADIOGRAPH not in rows[0]:
            raise InputError(
                f"Expected the column {VOLUME} or {RADIOGRAPH} in {rows[0].table}, row 1, got "
                f"{', '.join(rows[0].cells)}."
            )
        return check_studies([_study(row, root, Path(radiographs or root)) for row in rows], check_files)
    found = [path for path in sorted(root.iterdir()) if _may_be_volume(path)]
    studies = [Study(without_suffix(p.name), without_suffix(p.name), p, where=p.name) for p in found]
    return check_studies(studies, check_files)


def _study(row: Row, root: Path, radiographs: Path) -> Study:
    volume, radiograph = row.optional(VOLUME), row.optional(RADIOGRAPH)
    if volume is None and radiograph is None:
        raise InputError(f"Expected a volume or a radiograph, got neither in {row.where}.")
    name = (
        row.optional(STUDY)
        or row.optional(ID)
        or without_suffix(Path(volume or radiograph or "").name, RADIOGRAPH_SUFFIXES)
    )
    return Study(
        name,
        row.optional(PATIENT) or name,
        named_file(root, volume, VOLUME_SUFFIXES, row.where) if volume else None,
        named_file(radiographs, radiograph, RADIOGRAPH_SUFFIXES, row.where) if radiograph else None,
        row.label(LABEL, {**ZERO_OR_ONE, "": None}) if LABEL in row else None,
        row.optional(SPLIT),
        row.where,
        map=_named(root, row.optional(MAP)),
        findings=_named(root, row.optional(FINDINGS)),
    )


def _named(root: Path, name: str | None) -> Path | None:
    return root / name if name else None


def _may_be_volume(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.is_dir() or path.name.lower().endswith(VOLUME_SUFFIXES)
