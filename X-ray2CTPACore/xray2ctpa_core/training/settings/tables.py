"""Settings of the steps that evaluate bundles, make arms of baselines, and fill tables."""

from typing import Annotated, Literal

from pydantic import Field

from xray2ctpa_core.constants import DEFAULT_BUNDLE, PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import (
    Count,
    Existing,
    ExistingOrNone,
    Folders,
    FoldersOrNone,
    Positive,
    Window,
    settings,
)


@settings
class EvaluateSettings:
    """Evaluation of bundles on unseen people and virtual patients, and the first bundle's model card."""

    bundles: tuple[str, ...] = ()
    """Names, folders or Hub ids of the bundles; the first, a folder, gets the model card."""
    card: bool = True
    """Whether the first bundle gets model card and metrics."""
    cohort: ExistingOrNone = ""
    """Folder of virtual test patients."""
    train: ExistingOrNone = ""
    """Folder of the virtual patients that the baselines are made of."""
    people: FoldersOrNone = ()
    """Folders of real people's CTs."""
    open_pair_cohorts: FoldersOrNone = ()
    """Folders that open_pairs.py prepared."""
    pairs: FoldersOrNone = ()
    """Folders of real pairs."""
    radiograph_folders: FoldersOrNone = ()
    """Folders of real radiographs."""
    images: Count = 60
    """Unseen patients, and people, whose volumes are compared."""
    multi: Count = 20
    """Patients with several samples; all people have several."""
    samples: Annotated[int, Field(ge=2)] = 8
    """Samples that are averaged for them."""
    auroc: Count = 200
    """Unseen patients for the PE classification."""
    open_pairs: Count = 0
    """Pairs of the test split, from the first; 0 for all, as in the protocol."""
    radiographs: Count = 20
    """Real radiographs of each folder."""
    steps: Count = 0
    """Sampling steps; 0 for the bundle's own."""
    folds: bool = False
    """Whether the bundles are folds of one system."""
    seed: Count = 0
    """Each patient's seed is derived from it and the patient's name."""
    split: str = "test"
    """Name of the split for the evaluation."""
    train_split: str = "train"
    """Name of the split for the baselines."""
    metrics: tuple[Literal["fvd", "fid", "lpips", "planes"], ...] = ()
    """Additional metrics; planes are always measured for people."""
    weights: ExistingOrNone = ""
    """Folder of the weights that these metrics need (docs/tables.md)."""


@settings
class TablesSettings:
    """The papers' Tables 1 to 7 from evaluated arms, as CSV, Markdown and PNG, for any data set."""

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
