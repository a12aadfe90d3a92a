"""Size of an evaluation."""

from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.instruments import METRICS, Instruments, make_instruments


@dataclass(frozen=True)
class EvaluationConfig:
    """Numbers of patients and samples of an evaluation.

    Attributes:
        images: number of unseen patients, and of people, whose volumes are compared.
        multi: number of patients with several samples; all people have several.
        samples: number of samples that are averaged for them.
        auroc: number of unseen patients for the PE classification.
        open_pairs: number of pairs of the test split, from the first; 0 for all, as in the protocol.
        radiographs: number of real radiographs from each folder.
        steps: sampling steps; 0 for the bundle's own.
        folds: whether the bundles are folds of one system (evaluation.folds).
        seed: each patient's seed is derived from it and the patient's name.
        split, train_split: names of the splits for the evaluation and for the baselines.
        metrics: additional METRICS; "planes" are always measured for people.
        weights: folder of I3D_FILE, INCEPTION_FILE and ALEXNET_FILE; "" for none, or torch.hub's AlexNet.
    """

    images: int = 60
    multi: int = 20
    samples: int = 8
    auroc: int = 200
    open_pairs: int = 0
    radiographs: int = 20
    steps: int = 0
    folds: bool = False
    seed: int = 0
    split: str = "test"
    train_split: str = "train"
    metrics: tuple[str, ...] = ()
    weights: str = ""

    def __post_init__(self) -> None:
        counts = (self.images, self.multi, self.auroc, self.open_pairs, self.radiographs)
        if min(*counts, self.steps, self.seed) < 0 or self.samples < 2 or self.multi > self.images:
            raise ConfigError(f"Expected counts of at least 0, samples >= 2 and multi <= images, got {self}.")
        if not set(self.metrics) <= set(METRICS):
            raise ConfigError(f"Expected metrics of {', '.join(METRICS)}, got {', '.join(self.metrics)}.")

    def instruments(self, *more: str) -> Instruments:
        """The instruments for the metrics and for ``more`` of them."""
        weights = Path(self.weights) if self.weights else None
        return make_instruments(tuple(dict.fromkeys((*self.metrics, *more))), weights)
