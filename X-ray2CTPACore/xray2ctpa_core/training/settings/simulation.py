"""Settings of the steps that simulate patients."""

from xray2ctpa_core.data.settings import Count, Existing, Positive, Rate, Shape, settings


@settings
class CohortSettings:
    """Three cohorts of virtual patients, listed in studies.csv."""

    train: Count = 900
    """Training patients."""
    calibration: Count = 80
    """Patients on which thresholds are chosen (split valid)."""
    test: Count = 200
    """Patients for evaluation (split test)."""
    train_seed: int = 1
    """Seed of the training patients; seeds differ, so that no patient is in two cohorts."""
    calibration_seed: int = 2
    """Seed of the calibration patients."""
    test_seed: int = 3
    """Seed of the test patients."""
    workers: Count = 0
    """Processes; 0 for one per processor."""


@settings
class StudiesSettings:
    """A study index of the first patients of each cohort."""

    cohort: Existing = ""
    """Folder of the step cohort."""
    train: Count = 0
    """Training patients, from the first; 0 takes all."""
    calibration: Count = 0
    """Calibration patients, from the first; 0 takes all."""
    test: Count = 0
    """Test patients, from the first; 0 takes all."""


@settings
class PeopleStudiesSettings:
    """Virtual patients of many people, a few of each, as a study index whose patients are the people."""

    people: Existing = ""
    """Folder of packed people: the step people, kind templates."""
    without: tuple[str, ...] = ()
    """Names of those who are left out, if they are there."""
    patients: Positive = 20
    """Virtual patients of each person."""
    validated: tuple[str, ...] = ()
    """Names of those whose patients are of the split valid."""
    tested: tuple[str, ...] = ()
    """Names of those whose patients are of the split test, the others' of train; empty leaves splits out."""
    grid: Shape = (64, 128, 128)
    """Voxels of a volume, (depth, height, width)."""
    pixels: Positive = 256
    """Pixels along a side of a radiograph."""
    finer: Shape = (2, 1, 1)
    """Volumes are rendered on so many times finer a grid, and averaged."""
    people_mm: Rate = 2.0
    """Voxels that people are sampled from."""
    seed: Count = 1
    """Seed of the first person; the next has the next."""
