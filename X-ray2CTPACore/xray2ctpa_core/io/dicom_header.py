"""What a DICOM header says about a radiograph's view, orientation and size, however carelessly filled."""

import math
import re
from typing import TypeVar

from pydicom.dataset import Dataset

Default = TypeVar("Default", int, None)

#: Modalities of projection radiographs; OT and SC (and none) are used for digitised films.
PROJECTION_MODALITIES = ("CR", "DX", "RF", "RG", "DR", "OT", "SC", "")
FRONTAL_VIEWS = ("PA", "AP")
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
        return default if value is None else int(value)
    except _NOT_GIVEN:
        return default


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


def film_spacing(dataset: Dataset, notes: list[str]) -> tuple[tuple[float, float] | None, str]:
    """(row, column) mm and its source: PixelSpacing, else ImagerPixelSpacing, else the scanner's ("header").

    A malformed value is passed over with a sentence in ``notes``.
    """
    for keyword, source in (
        ("PixelSpacing", "PixelSpacing"),
        ("ImagerPixelSpacing", "ImagerPixelSpacing"),
        ("NominalScannedPixelSpacing", "header"),
    ):
        if not text(dataset, keyword):
            continue
        pair = _pair(dataset, keyword)
        if pair is not None:
            return pair, source
        notes.append(f"{keyword} is not two positive numbers; it was ignored.")
    return None, "unknown"


def pixel_aspect(dataset: Dataset) -> float:
    """Height of a pixel over its width from PixelAspectRatio, 1.0 where absent or malformed."""
    pair = _pair(dataset, "PixelAspectRatio")
    return 1.0 if pair is None else pair[0] / pair[1]


def _pair(dataset: Dataset, keyword: str) -> tuple[float, float] | None:
    try:
        first, second = (float(value) for value in dataset.get(keyword))
    except _NOT_GIVEN:
        return None
    usable = all(math.isfinite(value) and value > 0 for value in (first, second))
    return (first, second) if usable else None


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
