"""What a DICOM header says of the patient: a child (by age, dates or height), another part of the body."""

import datetime
import re

from pydicom.dataset import Dataset

from xray2ctpa_core.io.dicom_header import number, text

#: Words in BodyPartExamined, in the languages of modalities, for what shows the lungs.
CHEST_WORDS = ("CHEST", "THORA", "TORAX", "TÓRAX", "LUNG", "RIB", "HEART", "TRUNK")
#: Years from which a patient is no child.
ADULT_YEARS = 16
#: Ages in years beyond this are none; ages that differ by more contradict each other.
OLDEST_YEARS, SAME_AGE_YEARS = 125.0, 1.5
#: Heights of children in m; a height above 3 is in cm.
CHILD_HEIGHT_M, TALLEST_M = (0.3, 1.3), 3.0
_UNITS_A_YEAR = {"D": 365.25, "W": 52.2, "M": 12.0, "Y": 1.0}
_AGE = re.compile(r"(\d{1,4})\s*([DWMY]?)")
#: Dates of the examination, the best first.
_DATES = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate", "AcquisitionDateTime")


def subject_doubts(dataset: Dataset) -> list[str]:
    """Sentences on a header that names another part of the body than the chest, or a child, or whose age is
    none or contradicts the dates."""
    doubts = []
    part = text(dataset, "BodyPartExamined")
    if part and not any(word in part for word in CHEST_WORDS):
        doubts.append(f"The header names the body part {part}, not the chest.")
    doubts.extend([*_age_doubts(dataset), *_child_doubt(dataset)])
    return doubts


def _age_doubts(dataset: Dataset) -> list[str]:
    """Sentences on an age that is none, or that the dates contradict where one of both is a child's."""
    said, stated, by_dates = text(dataset, "PatientAge"), _stated_age(dataset), _years_by_dates(dataset)
    doubts = []
    if said and stated is None:
        doubts.append(f"PatientAge {said} cannot be an age (a number with D, W, M or Y); it was ignored.")
    disagrees = "The header disagrees with itself:"
    if by_dates is not None and by_dates < 0:
        doubts.append(f"{disagrees} PatientBirthDate lies after the date of the examination.")
    elif stated is not None and by_dates is not None and _contradict(stated, by_dates):
        doubts.append(
            f"{disagrees} the patient is {_years(stated)} old by PatientAge, {_years(by_dates)} by "
            "PatientBirthDate and the date of the examination."
        )
    return doubts


def _contradict(stated: float, by_dates: float) -> bool:
    """Whether two ages differ, one of which is a child's; beyond OLDEST_YEARS dates are placeholders."""
    is_child = min(stated, by_dates) < ADULT_YEARS
    return is_child and by_dates <= OLDEST_YEARS and abs(stated - by_dates) > SAME_AGE_YEARS


def age_in_years(dataset: Dataset) -> float | None:
    """PatientAge, or else the years from PatientBirthDate to the examination; None where neither says.

    A PatientAge without unit is one in years.
    """
    stated, by_dates = _stated_age(dataset), _years_by_dates(dataset)
    if stated is None and by_dates is not None and 0 <= by_dates <= OLDEST_YEARS:
        return by_dates
    return stated


def _child_doubt(dataset: Dataset) -> list[str]:
    age, height = age_in_years(dataset), number(dataset, "PatientSize") or 0.0
    height = height / 100 if height > TALLEST_M else height
    words = "paediatric radiographs are not what the bundle was made for."
    if age is not None and age < ADULT_YEARS:
        return [f"The patient is a child ({_years(age)} by the header): {words}"]
    if CHILD_HEIGHT_M[0] <= height <= CHILD_HEIGHT_M[1]:
        return [f"The patient may be a child (PatientSize {height:.2f} m by the header): {words}"]
    return []


def _years(age: float) -> str:
    return "under 1 year" if age < 1 else f"{age:.0f} year{'' if round(age) == 1 else 's'}"


def _stated_age(dataset: Dataset) -> float | None:
    match = _AGE.fullmatch(text(dataset, "PatientAge"))
    if not match:
        return None
    age = int(match[1]) / _UNITS_A_YEAR[match[2] or "Y"]
    return age if age <= OLDEST_YEARS else None


def _years_by_dates(dataset: Dataset) -> float | None:
    """From birth to the examination, below 0 where the dates are exchanged; None without both."""
    birth = _date(dataset, "PatientBirthDate")
    examined = next(filter(None, (_date(dataset, keyword) for keyword in _DATES)), None)
    return None if birth is None or examined is None else (examined - birth).days / 365.25


def _date(dataset: Dataset, keyword: str) -> datetime.datetime | None:
    """A date, also in the older form with points; None where it is absent or malformed."""
    try:
        return datetime.datetime.strptime(re.sub(r"[.\-]", "", text(dataset, keyword))[:8], "%Y%m%d")
    except ValueError:
        return None
