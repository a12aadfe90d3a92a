"""Who had pulmonary embolism, where a collection's clinical tables or a table of one's own say so.

The index does not; the clinical tables of the Imaging Data Commons come with its index of them. Nobody
promises that any of their columns records embolism: columns are listed, and a person decides which words mean
what.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.data.open_pairs.series import parquet_rows
from xray2ctpa_core.data.sources.table import ZERO_OR_ONE, csv_text, read_table
from xray2ctpa_core.errors import InputError

#: Of a cohort: PE by patient, which ``prepare`` reads.
LABELS_FILE = "labels.csv"
#: In a folder of clinical tables: which columns there are. Each table is a file or folder of its name.
DICTIONARY_FILE = "clinical_index.parquet"
#: What joins a clinical table with the images.
PATIENT_COLUMN = "dicom_patient_id"
#: In names, descriptions or values of columns, any case.
EMBOLISM_WORDS = ("embol", "thromb")


@dataclass(frozen=True)
class ClinicalColumn:
    """A column of a clinical table.

    Attributes:
        collection, table, name: where it is.
        label: what it means, "" where nothing says.
        values: as the dictionary has them, text.
    """

    collection: str
    table: str
    name: str
    label: str
    values: str


@dataclass(frozen=True)
class JoinedLabels:
    """PE by patient, and what was not used.

    Attributes:
        labels: 0 or 1 by patient of the cohort.
        unknown: how many patients of the cohort have none.
        other_words: values of the column that were neither positive nor negative, with their number.
        contradicted: patients with both; they have no label.
    """

    labels: dict[str, int]
    unknown: int
    other_words: dict[str, int]
    contradicted: tuple[str, ...]


def embolism_columns(tables: Path, collections: Sequence[str]) -> list[ClinicalColumn]:
    """Columns of the collections' clinical tables that mention embolism or thrombosis.

    Args:
        tables: folder with DICTIONARY_FILE.
        collections: names as the index has them.

    Raises:
        InputError: no such dictionary, or another file.
    """
    query = """
        select collection_id, coalesce(short_table_name, table_name), "column", coalesce(column_label, ''),
            coalesce("values"::varchar, '')
        from read_parquet($path) where list_contains($collections, collection_id)
    """
    rows = parquet_rows(query, Path(tables) / DICTIONARY_FILE, {"collections": list(collections)})
    columns = sorted((ClinicalColumn(*row) for row in rows), key=lambda c: (c.collection, c.table, c.name))
    return [
        column
        for column in columns
        if any(word in f"{column.name} {column.label} {column.values}".lower() for word in EMBOLISM_WORDS)
    ]


def join_labels(
    table: Path, column: str, positive: Sequence[str], negative: Sequence[str], patients: Sequence[str]
) -> JoinedLabels:
    """PE of the cohort's patients by a column of a clinical table.

    Args:
        table: a Parquet file, or a folder of some.
        column: of the table.
        positive, negative: its values that mean PE and no PE, whatever their case.
        patients: of the cohort.

    Raises:
        InputError: no such table or column, or a word that means both.
    """
    words = {word.casefold(): 1 for word in positive}
    both = [word for word in negative if words.setdefault(word.casefold(), 0) == 1]
    if both:
        raise InputError(f"Expected a word to mean one thing, got {', '.join(both)} for PE and for no PE.")
    place = Path(table) / "*.parquet" if Path(table).is_dir() else Path(table)
    quoted = column.replace('"', '""')
    query = f'select {PATIENT_COLUMN}::varchar, trim("{quoted}"::varchar) from read_parquet($path)'
    cohort = set(patients)
    found: dict[str, set[int]] = {}
    others: Counter[str] = Counter()
    for patient, value in parquet_rows(query, place):
        if patient not in cohort or value is None:
            continue
        label = words.get(value.casefold())
        if label is None:
            others[value] += 1
        else:
            found.setdefault(patient, set()).add(label)
    labels = {patient: next(iter(said)) for patient, said in sorted(found.items()) if len(said) == 1}
    contradicted = tuple(sorted(patient for patient, said in found.items() if len(said) > 1))
    return JoinedLabels(labels, len(cohort) - len(labels), dict(others), contradicted)


def labels_text(labels: dict[str, int]) -> str:
    """The table that `read_labels` reads."""
    return csv_text(("patient", "label"), [(patient, str(label)) for patient, label in labels.items()])


def read_labels(path: Path) -> dict[str, int]:
    """PE by patient, of a table with the columns patient and label (0 or 1); raises InputError for others, or
    for two labels of one patient."""
    labels: dict[str, int] = {}
    for row in read_table(path, ("patient", "label")):
        label = int(row.label("label", ZERO_OR_ONE) or 0)
        if labels.setdefault(row.text("patient"), label) != label:
            raise InputError(
                f"Expected one label a patient, got two of {row.text('patient')} in {row.where}."
            )
    return labels
