"""Virtual patients as studies of a data set: how they are called, which split they are in, where they lie."""

from pathlib import Path

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.simulation.build import RECORD_FILE

#: What each cohort of make_cohort.py is for, as data sets call it.
COHORT_SPLITS = {"train": "train", "calibration": "valid", "test": "test"}


def study_name(cohort: str, folder: Path) -> str:
    """Name of the study, and the patient, in ``folder`` of the cohort: "test-000012"."""
    return f"{cohort}-{folder.name}"


def patient_folder(root: Path, name: str) -> Path:
    """The folder of the patient called ``name`` among the cohorts in ``root``.

    Raises:
        InputError: no such patient.
    """
    cohort, _, number = name.partition("-")
    folder = Path(root) / cohort / "patients" / number
    if not (folder / RECORD_FILE).is_file():
        raise InputError(
            f"Expected the virtual patient {name} in {folder}, found none.",
            "Patients are called COHORT-NUMBER, as Training/cohort_studies.py writes them.",
        )
    return folder
