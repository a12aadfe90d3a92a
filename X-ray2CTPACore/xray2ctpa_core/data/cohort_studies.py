"""Virtual patients as studies of a data set: names, splits and folders."""

from collections.abc import Mapping
from pathlib import Path

from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.simulation.build import (
    CTPA_FILE,
    MAP_FILE,
    RADIOGRAPH_FILE,
    RECORD_FILE,
    patient_folders,
    read_record,
)

#: Split of each cohort, as data sets name it.
COHORT_SPLITS = {"train": "train", "calibration": "valid", "test": "test"}


def study_name(cohort: str, folder: Path) -> str:
    """Name of the study, and the patient, in ``folder`` of the cohort: "test-000012"."""
    return f"{cohort}-{folder.name}"


def cohort_study(cohort: str, folder: Path) -> Study:
    """The virtual patient in ``folder`` of the cohort as a study of the index."""
    name, record = study_name(cohort, folder), read_record(folder)
    return Study(
        name,
        name,
        folder / CTPA_FILE,
        folder / RADIOGRAPH_FILE,
        int(record["pe"]),
        COHORT_SPLITS[cohort],
        str(folder / RECORD_FILE),
        map=folder / MAP_FILE if (folder / MAP_FILE).is_file() else None,
        findings=folder / RECORD_FILE,
    )


def cohort_studies(root: Path, counts: Mapping[str, int]) -> list[Study]:
    """The first patients of each cohort in ``root``; ``counts`` gives their number by cohort, 0 for all.

    Raises:
        InputError: a cohort has fewer patients than requested, or there are none at all.
    """
    studies: list[Study] = []
    for cohort in COHORT_SPLITS:
        count = counts.get(cohort, 0)
        there = (Path(root) / cohort).is_dir()
        folders = patient_folders(Path(root) / cohort) if there or count else []
        if not 0 <= count <= len(folders):
            raise InputError(f"Expected 0 to {len(folders)} patients of the cohort {cohort}, got {count}.")
        studies += [cohort_study(cohort, folder) for folder in folders[: count or None]]
    if not studies:
        raise InputError(f"Expected the cohorts {', '.join(COHORT_SPLITS)} in {root}, found none.")
    return studies


def patient_folder(root: Path, name: str) -> Path:
    """The folder of the patient ``name`` among the cohorts in ``root``.

    Raises:
        InputError: no such patient.
    """
    cohort, _, number = name.partition("-")
    folder = Path(root) / cohort / "patients" / number
    if not (folder / RECORD_FILE).is_file():
        raise InputError(
            f"Expected the virtual patient {name} in {folder}, found none.",
            "Names of patients are COHORT-NUMBER, as the steps cohort and studies write them.",
        )
    return folder
