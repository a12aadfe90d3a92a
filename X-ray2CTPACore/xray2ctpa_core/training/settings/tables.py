"""Settings of the steps that make arms of baselines and fill tables."""

from typing import Literal

from xray2ctpa_core.constants import DEFAULT_BUNDLE, PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import (
    Count,
    Existing,
    ExistingOrNone,
    Folders,
    Positive,
    Window,
    settings,
)


@settings
class TablesSettings:
    """X-ray2CTPA's Tables 1 to 7 from evaluated arms, as CSV, Markdown and PNG, for any data set."""

    arms: Folders = ()
    """Folders that are searched for arm.json, at any depth."""
    tables: str = "paper-tables"
    """Name of a definition in Training/configs, or a JSON file."""
    dataset: str = ""
    """Data set whose arms are used; empty for all."""
    weights: ExistingOrNone = ""
    """Folder that may hold the I3D, the Inception and AlexNet (docs/tables.md)."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window of all image metrics."""
    volumes: Count = 0
    """Volumes of each arm, from the first; 0 for all. Distances of sets need equal numbers."""
    plates: Count = 4
    """Patients of each arm that are drawn with their Grad-CAM map."""
    seed: int = 0
    """Seed of t-SNE."""


@settings
class BaselineArmsSettings:
    """Arms without a denoiser: reconstruction, mean volume, and the volume of the nearest radiograph."""

    latents: Existing = ""
    """Folder of the step latents."""
    radiographs: Existing = ""
    """Folder of the step radiographs."""
    autoencoder: Existing = ""
    """Folder of the codec of the latents."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window to which the volumes were clipped."""
    studies: Count = 0
    """Test studies, from the first; 0 for all."""
    only: tuple[Literal["reconstruction", "mean-volume", "nearest"], ...] = ()
    """Arms to make; empty for all."""
    reconstruction: str = "reconstruction"
    """Name of that arm, where two codecs are compared."""
    dataset: str = ""
    """Data set of the arms."""


@settings
class BundleArmSettings:
    """The arm of a bundle: its volumes and its PE probability for the test studies of virtual patients."""

    bundle: str = DEFAULT_BUNDLE
    """Name, folder or Hub id of the bundle."""
    cohort: Existing = ""
    """Folder of the step cohort."""
    latents: Existing = ""
    """Folder whose index lists the cases."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window to which their volumes were clipped."""
    studies: Count = 0
    """Studies of each split, from the first; 0 for all."""
    samples: Positive = 1
    """Samples that are averaged for PE; the first is the volume."""
    seed: int = 0
    """Each patient's seed is derived from it."""
    name: str = "spatial"
    """Name of the arm."""
    dataset: str = ""
    """Data set of the arm."""


@settings
class SignsArmSettings:
    """The arm of a reader who knows a virtual patient's radiographic signs: the best possible AUROC."""

    studies: Existing = ""
    """Study index that names each study's record (patient.json)."""
    latents: ExistingOrNone = ""
    """Folder whose index lists the cases."""
    features: ExistingOrNone = ""
    """Folder of the step slice-features, whose table lists them in its place."""
    folds: Count = 0
    """Folds, as in the other arms; 0 for the data's own split."""
    fold_seed: int = 1
    """Seed of the folds, as in the other arms."""
    dataset: str = ""
    """Data set of the arm."""
