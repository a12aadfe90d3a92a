"""How much an evaluation measures."""

from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.instruments import METRICS, Instruments, make_instruments


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured.

    Attributes:
        images: unseen patients, and people, whose volumes are compared.
        multi: how many of the patients are sampled several times; people are all.
        samples: volumes averaged for those.
        auroc: unseen patients of the PE classification.
        open_pairs: of the test split, from the first; 0 for all, as the protocol has it.
        radiographs: real radiographs taken of each folder of them.
        steps: sampling steps; 0 for the bundle's own.
        folds: whether the bundles are folds of one system (people_run.evaluate_people).
        seed: each patient's seed comes from it and the patient's name.
        split, train_split: names of the splits measured on and taken for the baselines.
        metrics: of METRICS, what is measured beside the rest; "planes" of people always.
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
        """What volumes are measured with; ``more`` metrics beside those asked for."""
        weights = Path(self.weights) if self.weights else None
        return make_instruments(tuple(dict.fromkeys((*self.metrics, *more))), weights)
