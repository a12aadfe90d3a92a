"""One study of a data set, and the checks of a list of studies."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import HeaderCorrection

#: Of a hundred patients, those that drawn splits test and validate.
_TEST_PERCENT, _VALID_PERCENT = 20, 10


@dataclass(frozen=True)
class Study:
    """One CT, its radiograph and its label, as a data set's tables give them.

    Attributes:
        id: unique in its data set; names the study's folder after preprocessing.
        patient: name of the patient, whose studies all belong to one split.
        volume: file, or folder of one DICOM series; None where there is only a radiograph.
        radiograph: file or folder, or None.
        label: 1 with pulmonary embolism, 0 without, None unknown.
        split: "train", "valid", "test" or the data set's name of it; None where it has none.
        where: table and row, or file, from which the study comes, for messages.
        correction: values that the files' headers lack.
        map: of a virtual patient, the map of its frame into the atlas (.npy); studies without one are left
            out of the map's loss.
        findings: of a virtual patient, its record (patient.json) with frame and signs.
    """

    id: str
    patient: str
    volume: Path | None = None
    radiograph: Path | None = None
    label: int | None = None
    split: str | None = None
    where: str = ""
    correction: HeaderCorrection | None = None
    map: Path | None = None
    findings: Path | None = None


def with_drawn_splits(studies: Sequence[Study]) -> list[Study]:
    """The studies with a split by patient where none of them has one, else as they are.

    Of 100 patients about 70 are to train, 10 valid and 20 test, by a digest of the patient's name, whoever
    else is there; of two patients or more at least one trains and one tests.
    """
    if any(study.split for study in studies):
        return list(studies)
    place = {study.patient: _percent(study.patient) for study in studies}
    order = sorted(place, key=lambda patient: (place[patient], patient))
    split = {patient: _split_at(place[patient]) for patient in order}
    if len(order) > 1:
        split[order[0]], split[order[-1]] = "test", "train"
    return [replace(study, split=split[study.patient]) for study in studies]


def _percent(patient: str) -> int:
    """0 to 99, fixed by the patient's name."""
    return int(hashlib.sha256(f"split {patient}".encode()).hexdigest(), 16) % 100


def _split_at(percent: int) -> str:
    if percent < _TEST_PERCENT:
        return "test"
    return "valid" if percent < _TEST_PERCENT + _VALID_PERCENT else "train"


def check_studies(studies: Sequence[Study], check_files: bool) -> list[Study]:
    """The studies as a list, in order.

    Args:
        studies: of one data set.
        check_files: whether every file or folder must exist; otherwise studies with missing files fail one by
            one, when they are read.

    Raises:
        InputError: no study, a repeated id, a patient in two splits, or a missing file; names table and row.
    """
    if not studies:
        raise InputError("Expected at least one study, got none.", "Check the root folder and the table.")
    first_of: dict[str, Study] = {}
    of_patient: dict[str, Study] = {}
    for study in studies:
        other = first_of.setdefault(study.id, study)
        if other is not study:
            raise InputError(f"Expected each study once, got {study.id} in {other.where} and {study.where}.")
        other = of_patient.setdefault(study.patient, study)
        if other.split != study.split:
            raise InputError(
                f"Expected each patient in one split, got {study.patient} in {other.split or 'none'} "
                f"({other.where}) and in {study.split or 'none'} ({study.where}).",
                "Move all studies of a patient to one split.",
            )
        for path in (study.volume, study.radiograph, study.map, study.findings):
            if check_files and path is not None and not path.exists():
                raise InputError(
                    f"Expected {path}, got no such file or folder ({study.where}).",
                    "Get the missing file, or pass check_files=false: then it is logged and left out.",
                )
    return list(studies)
