"""What a DICOM header says in words and numbers, however carelessly it was filled."""

import math
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

Default = TypeVar("Default", int, None)

#: Modalities of projection radiographs; OT and SC (and none) are used for digitised radiographs.
PROJECTION_MODALITIES = ("CR", "DX", "RF", "RG", "DR", "OT", "SC", "")
#: What reading an element raises that is absent or malformed.
NOT_GIVEN = (AttributeError, KeyError, TypeError, ValueError, NotImplementedError)


def text(dataset: Dataset, keyword: str) -> str:
    """Value of ``keyword`` in capitals without spaces around, "" where it is absent or malformed."""
    try:
        value = dataset.get(keyword)
    except NOT_GIVEN:
        return ""
    return "" if value is None else str(value).strip().upper()


def photometric_of(dataset: Dataset) -> str:
    """PhotometricInterpretation in capitals, "MONOCHROME 1" as MONOCHROME1; "" where it is absent."""
    return text(dataset, "PhotometricInterpretation").replace("MONOCHROME ", "MONOCHROME")


def integer(dataset: Dataset, keyword: str, default: Default) -> int | Default:
    """Value of ``keyword`` as a whole number, ``default`` where it is absent or malformed."""
    try:
        value = dataset.get(keyword)
        if isinstance(value, bytes):  # UN, for want of a dictionary where the file was made
            return int.from_bytes(value[:2], "little" if is_little_endian(dataset) else "big")
        return default if value is None else int(value)
    except NOT_GIVEN:
        return default


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The finite numbers of ``keyword``; none where it is absent, malformed or holds anything else."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        values = tuple(float(v) for v in ([value] if isinstance(value, str | int | float) else value))
    except NOT_GIVEN:
        return ()
    return values if all(math.isfinite(v) for v in values) else ()


def each_number(dataset: Dataset, keyword: str) -> list[float | None]:
    """The values of ``keyword``, None in place of one that is empty or no finite number; none where it is
    absent or malformed."""
    try:
        value = dataset.get(keyword)
    except NOT_GIVEN:
        return []
    single = value is None or isinstance(value, str | int | float)
    return [_finite(v) for v in ([value] if single else value)]


def _finite(value: object) -> float | None:
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first number of ``keyword``, None where it is absent or malformed."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def is_little_endian(dataset: Dataset) -> bool:
    """Whether words stand in the file with their lower byte first."""
    meta = getattr(dataset, "file_meta", None) or Dataset()
    return str(meta.get("TransferSyntaxUID", "")) != ExplicitVRBigEndian


def is_projection(dataset: Dataset) -> bool:
    """Whether the modality is one that holds projection radiographs."""
    return text(dataset, "Modality") in PROJECTION_MODALITIES
