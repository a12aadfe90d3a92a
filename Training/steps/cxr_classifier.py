"""Trains a PE classifier on the radiograph alone; its encoder conditions the denoiser."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.latent_cases import LatentCase, first_volumes, read_latent_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.models.classifiers.radiograph_classifier import RadiographClassifier
from xray2ctpa_core.models.weights import load_tensors, save_tensors
from xray2ctpa_core.pipelines.encoders import make_encoder
from xray2ctpa_core.training.loop import save_network
from xray2ctpa_core.training.settings.classifiers import CxrClassifierSettings
from xray2ctpa_core.training.stages.labelled import train_and_predict

WEIGHTS_FILE = "cxr_classifier.safetensors"


def run(config: CxrClassifierSettings, out: Path) -> None:
    """Trains ``out``/radiograph_encoder and cxr_classifier.safetensors; saves them and the arm's
    predictions."""
    cases = read_latent_cases(Path(config.latents), labelled=True)

    def build() -> nn.Module:
        classifier = RadiographClassifier(make_encoder(config), config.dropout)
        if config.start:
            load_tensors(classifier, Path(config.start) / WEIGHTS_FILE)
        return classifier

    def data_of(some: Sequence[LatentCase], augmented: bool) -> StudyData:
        flip = config.flip if augmented else 0.0
        radiographs = Path(config.radiographs) if config.radiographs else None
        return StudyData(
            first_volumes(some), ("image", "label"), radiographs=radiographs, flip=flip, labelled=True
        )

    def save(classifier: nn.Module, place: Path) -> None:
        save_network(classifier.encoder, place / "radiograph_encoder")
        save_tensors(classifier, place / WEIGHTS_FILE)

    bar = Bar("CXR classifier")
    train_and_predict(config, cases, build, data_of, "image", save, out, bar)
