"""Series of the Imaging Data Commons, as its index describes them; read offline from the package
idc-index-data."""

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from xray2ctpa_core.errors import InputError

#: Package, and the file in it, that holds the index.
INDEX_PACKAGE, INDEX_NAME = "idc_index_data", "idc_index.parquet"
_HINT = "Install the core with its extra open-data."
#: Letters of a folder's name: a UID has at most 64, as has a PatientID.
_LONGEST_NAME = 64
#: Version of the index that the counts of docs/open-pairs.md are of.
TESTED_INDEX = "25.0.5"
#: Columns without which there are no pairs, and those that may be missing.
_NEEDED = (
    "collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "StudyDate",
    "instanceCount", "series_size_MB", "license_short_name",
)  # fmt: skip
_DESCRIBING = ("StudyDescription", "SeriesDescription", "BodyPartExamined", "source_DOI")


@dataclass(frozen=True)
class Series:
    """One DICOM series.

    Attributes:
        collection, patient, study, uid: where it belongs; PatientID, StudyInstanceUID, SeriesInstanceUID.
        modality: "CT", "CR" or "DX".
        date: of its study, shifted per patient by the collection: differences within a patient hold. None
            where the index has none.
        study_description, description: of study and series, "" where missing.
        body_part: BodyPartExamined, "" where missing.
        images: how many.
        megabytes: of all its files.
        licence, doi: of the data.
    """

    collection: str
    patient: str
    study: str
    uid: str
    modality: str
    date: date | None
    study_description: str
    description: str
    body_part: str
    images: int
    megabytes: float
    licence: str
    doi: str


def folder_name(identifier: str) -> str:
    """A name for the folder of an identifier: itself where it has only letters, digits, dot, dash and
    underscore and no dot in front, else with a digest in place of what systems do not allow."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", identifier).lstrip(".")[:_LONGEST_NAME]
    if name == identifier:
        return name
    return f"{name}-{hashlib.sha256(identifier.encode()).hexdigest()[:8]}"


def index_path() -> Path:
    """The index of the installed package; raises InputError where it is not installed."""
    spec = importlib.util.find_spec(INDEX_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError("Expected the package idc-index-data, which is not installed.", _HINT)
    return Path(spec.submodule_search_locations[0]) / INDEX_NAME


def index_version() -> str:
    """Version of the installed index; raises InputError where it is not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version("idc-index-data")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError("Expected the package idc-index-data, which is not installed.", _HINT) from error


def read_index(path: Path, collections: Sequence[str]) -> list[Series]:
    """The CT, CR and DX series of ``collections``, sorted by UID.

    Other versions of the index may lack a column or have more: what only describes a series may be missing,
    and a row without identifiers, number of images or size is no series that could be fetched.

    Args:
        path: the index, a Parquet file.
        collections: names as the index has them.

    Raises:
        InputError: no such file, another file, a column that is missing, or the reader of Parquet is not
            installed.
    """
    there = {row[0] for row in parquet_rows("describe select * from read_parquet($path)", path)}
    if absent := [name for name in _NEEDED if name not in there]:
        raise InputError(
            f"Expected an index with the columns {', '.join(_NEEDED)}, got none called {', '.join(absent)} "
            f"in {path}.",
            f"These rules were written for {INDEX_PACKAGE} {TESTED_INDEX}: install that version.",
        )
    described = {name: f"coalesce({name}::varchar, '')" if name in there else "''" for name in _DESCRIBING}
    own = "and analysis_result_id is null" if "analysis_result_id" in there else ""
    query = f"""
        select collection_id, PatientID::varchar, StudyInstanceUID, SeriesInstanceUID, Modality,
            coalesce(try_cast(StudyDate as date), try_strptime(StudyDate::varchar, '%Y%m%d')::date),
            {described["StudyDescription"]}, {described["SeriesDescription"]},
            {described["BodyPartExamined"]}, try_cast(instanceCount as bigint) as images,
            try_cast(series_size_MB as double) as megabytes, coalesce(license_short_name, ''),
            {described["source_DOI"]}
        from read_parquet($path)
        where Modality in ('CT', 'CR', 'DX') {own} and list_contains($collections, collection_id)
            and coalesce(PatientID::varchar, '') != '' and coalesce(StudyInstanceUID, '') != ''
            and coalesce(SeriesInstanceUID, '') != '' and images > 0 and isfinite(megabytes)
            and megabytes >= 0
        order by SeriesInstanceUID
    """
    return [Series(*row) for row in parquet_rows(query, path, {"collections": list(collections)})]


def parquet_rows(query: str, path: Path, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """What a query finds.

    Args:
        query: SQL of DuckDB; $path stands for ``path``.
        path: a Parquet file, or a pattern of some in one folder.
        values: of the query's other names.

    Raises:
        InputError: no such file, another file or other columns, or DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise InputError("Reading the index needs duckdb, which is not installed.", _HINT) from error
    path = Path(path)
    if not any(path.parent.glob(path.name)):
        raise InputError(f"Expected a table at {path}, which is no file.", _HINT)
    try:
        with duckdb.connect() as connection:
            found = connection.execute(query, {"path": str(path), **(values or {})})
            rows: list[tuple[Any, ...]] = found.fetchall()
            return rows
    except duckdb.Error as error:
        raise InputError(
            f"Expected a table of the Imaging Data Commons in {path}, got: {str(error).splitlines()[0]}"
        ) from error
