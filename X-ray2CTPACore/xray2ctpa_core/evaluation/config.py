"""Settings of an evaluation, and of the step that evaluates. Nothing here imports torch."""

from typing import Annotated, Literal

from pydantic import Field

from xray2ctpa_core.data.settings import Count, ExistingOrNone, FoldersOrNone, settings

#: Metrics that are measured on request, because they need weights that are not embedded, or time.
Metric = Literal["fvd", "fid", "lpips", "planes"]


@settings
class EvaluationConfig:
    """Numbers of patients and samples of an evaluation, and its metrics."""

    images: Count = 60
    """Unseen patients, and people, whose volumes are compared."""
    multi: Count = 20
    """The first of these patients, with several samples; all people have several."""
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
    metrics: tuple[Metric, ...] = ()
    """Additional metrics; planes are always measured for people."""
    weights: ExistingOrNone = ""
    """Folder of the weights that these metrics need (docs/tables.md)."""


@settings
class EvaluateSettings(EvaluationConfig):
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
