"""Finds the one frontal view among the DICOM files of an examination."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from xray2ctpa_core.constants import FRONTAL_VIEWS, OTHER_VIEWS
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom import check_is_one_projection
from xray2ctpa_core.io.dicom_file import is_dicom, read_dicom
from xray2ctpa_core.io.dicom_header import text
from xray2ctpa_core.io.dicom_view import view_position

#: A folder with more files than this is an archive, not an examination.
MAX_FILES = 5000
_LISTED = 5


@dataclass(frozen=True)
class _Candidate:
    path: Path
    view: str
    raw: bool
    uid: str


def choose_frontal_file(folder: Path) -> Path:
    """The file of ``folder`` (searched with its subfolders) that holds the frontal radiograph.

    A view called PA or AP wins over one that is not named; lateral views are left out; raw detector values
    (FOR PROCESSING) are only taken where no processed image is; of copies of one image the first is.

    Raises:
        InputError: no DICOM radiograph, only lateral views, or several that could be meant.
    """
    candidates: list[_Candidate] = []
    refused: list[InputError] = []
    for path in dicom_files(folder):
        try:
            header = read_dicom(path, pixels=False)
            check_is_one_projection(header, path.name)
        except InputError as error:
            refused.append(error)
            continue
        raw = text(header, "PresentationIntentType") == "FOR PROCESSING"
        uid = text(header, "SOPInstanceUID") or str(path)
        candidates.append(_Candidate(path, view_position(header), raw, uid))
    if not candidates:
        _refuse_empty(folder, refused)
    chosen = [c for c in candidates if c.view in FRONTAL_VIEWS]
    chosen = chosen or [c for c in candidates if c.view not in OTHER_VIEWS]
    if not chosen:
        raise InputError(
            f"Expected a frontal view, got {_listed(candidates)} in {folder}.",
            "Give a folder with the frontal view.",
        )
    chosen = [c for c in chosen if not c.raw] or chosen
    chosen = list({c.uid: c for c in reversed(chosen)}.values())[::-1]  # of copies the first
    if len(chosen) > 1:
        raise InputError(
            f"Expected one frontal view, got {len(chosen)} in {folder}: {_listed(chosen)}.",
            "Give the file of the one that is meant.",
        )
    return chosen[0].path


def dicom_files(folder: Path) -> Iterator[Path]:
    """DICOM files below ``folder``, sorted; an unreadable subfolder raises its OSError.

    Raises:
        InputError: more than MAX_FILES files.
    """

    def stop(error: OSError) -> NoReturn:
        raise error

    seen = 0
    for parent, folders, names in os.walk(folder, onerror=stop):
        folders.sort()
        for name in sorted(names):
            seen += 1
            if seen > MAX_FILES:
                raise InputError(
                    f"Expected the files of one examination, got more than {MAX_FILES} in {folder}.",
                    "Give the folder of the one image that is meant.",
                )
            path = Path(parent) / name
            if path.is_file() and is_dicom(path) and name.upper() != "DICOMDIR":
                yield path


def _refuse_empty(folder: Path, refused: list[InputError]) -> NoReturn:
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise InputError(
            f"Expected a radiograph in {folder}, got {len(refused)} others. First: {refused[0].message}",
            "Give the folder of the chest radiograph.",
        )
    raise InputError(
        f"Expected DICOM files in {folder}, got none.",
        "Give a PNG, JPEG, TIFF or NIfTI file itself, not its folder.",
    )


def _listed(candidates: list[_Candidate]) -> str:
    names = [f"{c.path.name} ({c.view})" for c in candidates[:_LISTED]]
    return ", ".join(names) + (", ..." if len(candidates) > _LISTED else "")
