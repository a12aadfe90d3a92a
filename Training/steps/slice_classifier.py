"""Trains a PE classifier on full volumes as in INSPECT: a 2D network on each slice, an LSTM over them."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.latent_cases import LatentCase, read_latent_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.models.classifiers.slice_classifier import SliceClassifier
from xray2ctpa_core.models.weights import load_tensors, save_tensors
from xray2ctpa_core.pipelines.encoders import make_encoder
from xray2ctpa_core.training.settings.classifiers import SliceClassifierSettings
from xray2ctpa_core.training.stages.labelled import train_and_predict

WEIGHTS_FILE = "slice_classifier.safetensors"


def run(config: SliceClassifierSettings, out: Path) -> None:
    """Trains and saves ``out``/slice_classifier.safetensors (of each fold, in its folder), and
    predictions."""
    cases = read_latent_cases(Path(config.latents), labelled=True)

    def build() -> nn.Module:
        classifier = SliceClassifier(make_encoder(config), config.hidden, config.dropout)
        if config.start:
            load_tensors(classifier, Path(config.start) / WEIGHTS_FILE)
        return classifier

    def data_of(some: Sequence[LatentCase], augmented: bool) -> StudyData:  # noqa: ARG001 - slices as they are
        return StudyData(some, ("volume", "label"), window=config.hu_window, labelled=True)

    def save(classifier: nn.Module, place: Path) -> None:
        save_tensors(classifier, place / WEIGHTS_FILE)

    bar = Bar("slice classifier")
    train_and_predict(config, cases, build, data_of, "volume", save, out, bar)
