"""The subjects of an evaluation: their protocol, and the virtual patients of a cohort."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import read_axial_volume
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.simulation.build import (
    CTPA_FILE,
    ORGANS_FILE,
    RADIOGRAPH_FILE,
    RECORD_FILE,
    patient_folders,
    read_record,
)
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume


class Subject(Protocol):
    """A subject with a CT and a radiograph whose frame is known: a virtual patient or a person."""

    name: str

    @property
    def identity(self) -> str:
        """Digits that depend on the CT and the radiograph."""

    @property
    def volume(self) -> Volume:
        """The CT on the frame's grid, HU."""

    @property
    def hu(self) -> np.ndarray:
        """(D, H, W) float32 HU of ``volume``."""

    @property
    def enhanced(self) -> bool:
        """Whether the CT shows contrast medium."""

    @property
    def radiograph(self) -> Radiograph:
        """The radiograph."""

    @property
    def frame(self) -> FrontalFrame:
        """The radiograph's square that corresponds to the volume."""

    def frame_image(self, size: int) -> np.ndarray:
        """(size, size) float32 in [0, 1]: the radiograph's frame as the networks read it."""

    def fresh(self) -> "Subject":
        """A copy without voxels that can be read again."""


def seed_of(subject: Subject, seed: int) -> int:
    """The subject's own seed, independent of the other subjects."""
    return int(np.random.SeedSequence([seed, int(subject.identity, 16)]).generate_state(1)[0])


class CohortPatient:
    """One patient folder of a cohort; files are read on first use and kept.

    Args:
        folder: ``patients/000123`` as ``cohort.build`` writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    @cached_property
    def record(self) -> dict[str, Any]:
        """patient.json: pe, signs, sign_probability, frame and all parameters."""
        return read_record(self.folder)

    @cached_property
    def identity(self) -> str:
        """12 hex digits of patient.json, which differ between patients and between versions of a patient."""
        return hashlib.sha256((self.folder / RECORD_FILE).read_bytes()).hexdigest()[:12]

    @property
    def pe(self) -> bool:
        """Whether the patient has pulmonary embolism."""
        return bool(self.record["pe"])

    @property
    def clot_lobes(self) -> list[int]:
        """Labels of the lobes whose arteries hold clots; empty without PE."""
        return [int(lobe) for lobe in self.record["clot_lobes"]]

    @cached_property
    def volume(self) -> Volume:
        """The CTPA, float32 HU."""
        volume = read_axial_volume(self.folder / CTPA_FILE)
        return volume.with_array(volume.array.astype(np.float32))

    @property
    def hu(self) -> np.ndarray:
        """(D, H, W) float32 HU."""
        return self.volume.array

    @property
    def enhanced(self) -> bool:
        """True: it is a CTPA."""
        return True

    def fresh(self) -> "CohortPatient":
        """A copy without voxels."""
        return CohortPatient(self.folder)

    @cached_property
    def organs(self) -> np.ndarray:
        """(D, H, W) uint8, values of simulation.labels."""
        return read_axial_volume(self.folder / ORGANS_FILE).array.astype(np.uint8)

    @cached_property
    def radiograph(self) -> Radiograph:
        """The radiograph."""
        return read_radiograph(self.folder / RADIOGRAPH_FILE)

    @cached_property
    def frame(self) -> FrontalFrame:
        """The radiograph's square that corresponds to the volume."""
        return FrontalFrame(**self.record["frame"])

    def frame_image(self, size: int) -> np.ndarray:
        """(size, size) float32 in [0, 1]: the radiograph's frame as the networks read it."""
        return frame_image(self.radiograph.pixels, self.frame, size)


def cohort_patients(cohort: Path, split: str) -> list[CohortPatient]:
    """The patients of one split, in the order of their folders' names.

    Args:
        cohort: folder that `xray2ctpa cohort` made.
        split: value of ``split`` in patient.json; patients without one belong to every split.

    Raises:
        InputError: no cohort there, no patient of that split, or two of one record, whose rows would be
            taken for one another.
    """
    patients = [CohortPatient(folder) for folder in patient_folders(cohort)]
    first: dict[str, CohortPatient] = {}
    for patient in patients:
        other = first.setdefault(patient.identity, patient)
        if other is not patient:
            raise InputError(
                f"Expected patients whose {RECORD_FILE} differ, got the same one in {other.folder} and "
                f"{patient.folder}.",
                "Make the cohort again: its step names every patient in the record.",
            )
    chosen = [patient for patient in patients if patient.record.get("split", split) == split]
    if not chosen:
        splits = sorted({str(patient.record.get("split")) for patient in patients})
        raise InputError(f"Expected patients of split {split!r} in {cohort}, got {', '.join(splits)}.")
    return chosen


def check_apart(patients: Sequence[CohortPatient], training: Sequence[CohortPatient]) -> None:
    """Raises InputError if a patient of the evaluation is one of the training patients."""
    known = {patient.identity for patient in training}
    shared = [patient.name for patient in patients if patient.identity in known]
    if shared:
        raise InputError(
            f"Expected unseen patients, got {len(shared)} that were trained on ({shared[0]}).",
            "Name the cohort of the training by --train, made with another seed.",
        )


def check_both_classes(patients: Sequence[CohortPatient]) -> None:
    """Raises InputError for fewer than two patients with or without PE, which DeLong's method needs."""
    positives = sum(patient.pe for patient in patients)
    if min(positives, len(patients) - positives) < 2:
        raise InputError(
            f"An AUROC needs 2 patients with and 2 without PE, got {positives} of {len(patients)} with.",
            "Measure more patients, or none by --auroc 0.",
        )


def group_identity(patients: Sequence[Subject]) -> str:
    """12 hex digits of all subjects."""
    return hashlib.sha256("".join(patient.identity for patient in patients).encode()).hexdigest()[:12]
