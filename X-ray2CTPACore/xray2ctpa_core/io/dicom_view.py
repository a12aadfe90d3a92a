"""Which view of the patient a DICOM header states, how the image lies, and where the header disagrees."""

import re

from pydicom.dataset import Dataset

from xray2ctpa_core.constants import FRONTAL_VIEWS, OTHER_VIEWS
from xray2ctpa_core.io.dicom_header import NOT_GIVEN, text

#: Codes of CID 4010 in SNOMED CT and in the older SNOMED-RT.
_VIEW_OF_CODES = {
    "399348003": "AP", "R-10206": "AP", "272479007": "PA", "R-10214": "PA", "R-40888": "PA",
    "399173006": "LL", "R-10236": "LL", "399198007": "RL", "R-10232": "RL", "399067008": "LL",
    "R-102CD": "LL",
}  # fmt: skip
_WORDS_OF_VIEWS = (
    (r"\b[LR][AP]O\b|OBLIQUE|OBLIQ\b", "OBLIQUE"),
    (r"\b[LR]LD\b|DECUBITUS", "DECUBITUS"),
    (r"\bPA\b|POSTERO-?\s?ANTERIOR", "PA"),
    (r"\bAP\b|ANTERO-?\s?POSTERIOR", "AP"),
    (r"\bLL\b|\bRL\b|\bLAT(ERAL)?\b", "LL"),
)


def view_position(dataset: Dataset) -> str:
    """View: "PA", "AP", one of OTHER_VIEWS, or what ViewPosition holds; "unknown" where nothing says.

    ViewPosition comes first, then the view code, the orientation of the patient, the series' description.
    """
    position = text(dataset, "ViewPosition")
    if position in (*FRONTAL_VIEWS, *OTHER_VIEWS):
        return position
    lateral = "LL" if _lies_lateral(dataset) else ""
    return (
        _view_in(position)
        or _view_of_code(dataset)
        or lateral
        or _view_in(text(dataset, "SeriesDescription"))
        or position
        or "unknown"
    )


def view_doubts(dataset: Dataset) -> list[str]:
    """Sentences on what in the header speaks against a frontal view of both lungs."""
    view, code = view_position(dataset), _view_of_code(dataset)
    orientation = "\\".join(_directions(dataset))
    doubts = []
    if view in FRONTAL_VIEWS and code in OTHER_VIEWS:
        doubts.append(f"The header disagrees with itself: the view is {view}, but its code says {code}.")
    if view in FRONTAL_VIEWS and _lies_lateral(dataset):
        doubts.append(
            f"The header disagrees with itself: the view is {view}, but PatientOrientation {orientation} is "
            "that of a lateral."
        )
    if view in OTHER_VIEWS and code in FRONTAL_VIEWS:
        doubts.append(f"The header disagrees with itself: the view is {view}, but its code says {code}.")
    side = text(dataset, "ImageLaterality") or text(dataset, "Laterality")
    if side in ("L", "R"):
        doubts.append(
            f"The header says laterality {side}, as of one of a pair (a hand, a lateral view); a frontal "
            "chest radiograph shows both sides."
        )
    if text(dataset, "FieldOfViewHorizontalFlip") == "YES" and patient_orientation(dataset) is None:
        doubts.append(
            "The header says that the image was flipped horizontally, and no PatientOrientation which side "
            "is the patient's left: compare left and right."
        )
    return doubts


def patient_orientation(dataset: Dataset) -> tuple[str, str] | None:
    """Directions, of L R H F, in which columns and rows count up; None where unknown or not frontal."""
    directions = _directions(dataset)
    if len(directions) != 2:
        return None
    along_columns, along_rows = directions
    frontal = {frozenset("LR"), frozenset("HF")}
    axes = [next((axis for axis in frontal if d in axis), None) for d in (along_columns, along_rows)]
    return (along_columns, along_rows) if None not in axes and axes[0] != axes[1] else None


def _lies_lateral(dataset: Dataset) -> bool:
    """Whether the columns or the rows run to anterior or posterior."""
    directions = _directions(dataset)
    return len(directions) == 2 and any(d in "AP" for d in directions)


def _directions(dataset: Dataset) -> list[str]:
    """First letters of PatientOrientation: the main direction of columns and rows."""
    try:
        values = dataset.get("PatientOrientation") or []
        return [str(value).strip().upper()[0] for value in values]
    except (*NOT_GIVEN, IndexError):
        return []


def _view_of_code(dataset: Dataset) -> str:
    """View of the first known ViewCodeSequence item, by its code or else by its meaning; "" for none."""
    try:
        items = list(dataset.get("ViewCodeSequence") or [])
    except NOT_GIVEN:
        return ""
    codes = [_VIEW_OF_CODES.get(text(item, "CodeValue"), "") for item in items]
    return next(filter(None, codes), "") or _view_in(" ".join(text(item, "CodeMeaning") for item in items))


def _view_in(words: str) -> str:
    """The one view that ``words`` name, "" where they name none or several; obliques are named by two."""
    named = [view for pattern, view in _WORDS_OF_VIEWS if re.search(pattern, words)]
    if named and named[0] in OTHER_VIEWS[:2]:
        return named[0]
    return named[0] if len(named) == 1 else ""
