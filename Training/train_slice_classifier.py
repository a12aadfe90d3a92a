"""A PE classifier on full volumes as INSPECT's: a 2D network on every slice, an LSTM over the slices.

python Training/train_slice_classifier.py --out runs/mine/slice-classifier \\
    --config Training/configs/paper-slice-classifier.json --set latents=runs/mine/latents

On the decoded volumes of generate_latents.py: --set latents=runs/mine/generated
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.latent_cases import LatentCase, read_latent_cases
from xray2ctpa_core.data.volume_cases import VolumeCases
from xray2ctpa_core.models.classifiers.slice_classifier import SliceClassifier
from xray2ctpa_core.models.weights import load_tensors, save_tensors
from xray2ctpa_core.pipelines.encoders import EncoderConfig, make_encoder
from xray2ctpa_core.training.stages.labelled import LabelledConfig, train_and_predict

WEIGHTS_FILE = "slice_classifier.safetensors"


@dataclass(frozen=True)
class Config(LabelledConfig, EncoderConfig):
    """latents: folder whose index lists the volumes; hu_window: that becomes [-1, 1]; hidden: features of the
    LSTM in each direction; start: folder of an earlier run with the same encoder; the rest as in the two
    classes."""

    latents: str = "runs/paper/latents"
    hu_window: tuple[float, ...] = PAPER_HU_WINDOW
    hidden: int = 128
    dropout: float = 0.2
    start: str = ""
    batch_size: int = 2


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/slice_classifier.safetensors (of each fold, in its folder), and
    predictions."""
    cases = read_latent_cases(Path(config.latents), labelled=True)

    def build() -> nn.Module:
        classifier = SliceClassifier(make_encoder(config), config.hidden, config.dropout)
        if config.start:
            load_tensors(classifier, Path(config.start) / WEIGHTS_FILE)
        return classifier

    def data_of(some: Sequence[LatentCase], augmented: bool) -> VolumeCases:  # noqa: ARG001 - slices as they are
        return VolumeCases(some, config.hu_window)

    def save(classifier: nn.Module, place: Path) -> None:
        save_tensors(classifier, place / WEIGHTS_FILE)

    bar = Bar("slice classifier")
    train_and_predict(config, cases, build, data_of, "volume", save, out, resume, bar)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"steps": 2, "batch_size": 1}))
