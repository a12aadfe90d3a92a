"""What a DICOM header says about a radiograph's view and orientation, however carelessly filled."""

import datetime
import math
import re
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

Default = TypeVar("Default", int, None)

#: Modalities of projection radiographs; OT and SC (and none) are used for digitised radiographs.
PROJECTION_MODALITIES = ("CR", "DX", "RF", "RG", "DR", "OT", "SC", "")
FRONTAL_VIEWS = ("PA", "AP")
#: Words in BodyPartExamined, in the languages of modalities, for what shows the lungs.
CHEST_WORDS = ("CHEST", "THORA", "TORAX", "TÓRAX", "LUNG", "RIB", "HEART", "TRUNK")
#: Years from which a patient is no child.
ADULT_YEARS = 16
LATERAL_VIEWS = ("LL", "RL", "LAT")
_NOT_GIVEN = (AttributeError, KeyError, TypeError, ValueError, NotImplementedError)
_WORDS_OF_VIEWS = (
    (r"\bPA\b|POSTERO-?\s?ANTERIOR", "PA"),
    (r"\bAP\b|ANTERO-?\s?POSTERIOR", "AP"),
    (r"\bLL\b|\bRL\b|\bLAT(ERAL)?\b", "LL"),
)


def text(dataset: Dataset, keyword: str) -> str:
    """Value of ``keyword`` in capitals without spaces around, "" where it is absent or malformed."""
    try:
        value = dataset.get(keyword)
    except _NOT_GIVEN:
        return ""
    return "" if value is None else str(value).strip().upper()


def integer(dataset: Dataset, keyword: str, default: Default) -> int | Default:
    """Value of ``keyword`` as a whole number, ``default`` where it is absent or malformed."""
    try:
        value = dataset.get(keyword)
        if isinstance(value, bytes):  # UN, for want of a dictionary where the file was made
            return int.from_bytes(value[:2], "little" if is_little_endian(dataset) else "big")
        return default if value is None else int(value)
    except _NOT_GIVEN:
        return default


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The finite numbers of ``keyword``; none where it is absent, malformed or holds anything else."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        values = tuple(float(v) for v in ([value] if isinstance(value, str | int | float) else value))
    except _NOT_GIVEN:
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


def view_position(dataset: Dataset) -> str:
    """View: "PA", "AP", "LL" or what ViewPosition holds, "unknown" where nothing in the header says.

    ViewPosition comes first, then the view code, the orientation of the patient, the series' description.
    """
    position = text(dataset, "ViewPosition")
    if position:
        return position
    try:
        codes = dataset.get("ViewCodeSequence") or []
        meanings = " ".join(text(item, "CodeMeaning") for item in codes)
    except _NOT_GIVEN:
        meanings = ""
    directions = _directions(dataset)
    lateral = len(directions) == 2 and any(d in "AP" for d in directions)
    return (
        _view_in(meanings) or ("LL" if lateral else _view_in(text(dataset, "SeriesDescription"))) or "unknown"
    )


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


def is_lateral(view: str) -> bool:
    """Whether ``view`` of ``view_position`` is a lateral one."""
    return view.startswith(LATERAL_VIEWS)


def patient_orientation(dataset: Dataset) -> tuple[str, str] | None:
    """Directions, of L R H F, in which columns and rows count up; None where unknown or not frontal."""
    directions = _directions(dataset)
    if len(directions) != 2:
        return None
    along_columns, along_rows = directions
    frontal = {frozenset("LR"), frozenset("HF")}
    axes = [next((axis for axis in frontal if d in axis), None) for d in (along_columns, along_rows)]
    return (along_columns, along_rows) if None not in axes and axes[0] != axes[1] else None


def _directions(dataset: Dataset) -> list[str]:
    """First letters of PatientOrientation: the main direction of columns and rows."""
    try:
        values = dataset.get("PatientOrientation") or []
        return [str(value).strip().upper()[0] for value in values]
    except (*_NOT_GIVEN, IndexError):
        return []


def _view_in(words: str) -> str:
    """The one view that ``words`` name, "" where they name none or several."""
    named = [view for pattern, view in _WORDS_OF_VIEWS if re.search(pattern, words)]
    return named[0] if len(named) == 1 else ""
