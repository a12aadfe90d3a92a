"""What a DICOM header says in words and numbers, however carelessly it was filled."""

import datetime
import math
import re
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

Default = TypeVar("Default", int, None)

#: Modalities of projection radiographs; OT and SC (and none) are used for digitised radiographs.
PROJECTION_MODALITIES = ("CR", "DX", "RF", "RG", "DR", "OT", "SC", "")
#: Words in BodyPartExamined, in the languages of modalities, for what shows the lungs.
CHEST_WORDS = ("CHEST", "THORA", "TORAX", "TÓRAX", "LUNG", "RIB", "HEART", "TRUNK")
#: Years from which a patient is no child.
ADULT_YEARS = 16
#: What reading an element raises that is absent or malformed.
NOT_GIVEN = (AttributeError, KeyError, TypeError, ValueError, NotImplementedError)


def text(dataset: Dataset, keyword: str) -> str:
    """Value of ``keyword`` in capitals without spaces around, "" where it is absent or malformed."""
    try:
        value = dataset.get(keyword)
    except NOT_GIVEN:
        return ""
    return "" if value is None else str(value).strip().upper()


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


def subject_doubts(dataset: Dataset) -> list[str]:
    """Sentences on a header that names another part of the body than the chest, or a child."""
    doubts = []
    part = text(dataset, "BodyPartExamined")
    if part and not any(word in part for word in CHEST_WORDS):
        doubts.append(f"The header names the body part {part}, not the chest.")
    age = age_in_years(dataset)
    if age is not None and age < ADULT_YEARS:
        years = "under 1 year" if age < 1 else f"{age:.0f} years"
        doubts.append(
            f"The patient is a child ({years} by the header): paediatric radiographs are not what the bundle "
            "was made for."
        )
    return doubts


def age_in_years(dataset: Dataset) -> float | None:
    """PatientAge, or else the years from PatientBirthDate to StudyDate; None where neither says."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text(dataset, "PatientAge"))
    if match:
        return int(match[1]) / {"D": 365.25, "W": 52.2, "M": 12.0, "Y": 1.0}[match[2]]
    days = []
    for keyword in ("PatientBirthDate", "StudyDate"):
        try:
            days.append(datetime.datetime.strptime(text(dataset, keyword), "%Y%m%d"))
        except ValueError:
            return None
    years = (days[1] - days[0]).days / 365.25
    return years if 0 <= years < 120 else None
