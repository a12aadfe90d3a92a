"""A PE classifier on the radiograph alone: what the generated CTPA has to beat (X-ray2CTPA, Table 1).

python Training/train_cxr_classifier.py --out runs/mine/cxr-biomedclip \\
    --config Training/configs/paper-cxr-classifier.json \\
    --set latents=runs/mine/latents films=runs/mine/cxr encoder=biomedclip

Encoders: biomedclip and dinov2 (fetched at a pinned commit, or encoder_weights=FOLDER), radimagenet-resnet50
(encoder_weights=FOLDER of ResNet50.pt), small (from nothing). The saved film_encoder conditions the denoiser.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.latent_cases import LatentCase, read_latent_cases
from xray2ctpa_core.data.volume_cases import FilmCases
from xray2ctpa_core.models.classifiers.radiograph_classifier import FilmClassifier
from xray2ctpa_core.models.weights import load_tensors, save_tensors
from xray2ctpa_core.pipelines.encoders import EncoderConfig, make_encoder
from xray2ctpa_core.training.loop import save_network
from xray2ctpa_core.training.stages.labelled import LabelledConfig, train_and_predict

WEIGHTS_FILE = "cxr_classifier.safetensors"


@dataclass(frozen=True)
class Config(LabelledConfig, EncoderConfig):
    """latents: folder whose index lists the cases, so that every arm has the same; films: of
    preprocess_cxr.py; flip: probability that a film is mirrored; start: folder of an earlier run with the
    same encoder; the rest as in the two classes."""

    latents: str = "runs/paper/latents"
    films: str = "runs/paper/cxr"
    flip: float = 0.5
    dropout: float = 0.2
    start: str = ""


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/film_encoder and cxr_classifier.safetensors, and the arm's predictions."""
    cases = read_latent_cases(Path(config.latents), labelled=True)

    def build() -> nn.Module:
        classifier = FilmClassifier(make_encoder(config), config.dropout)
        if config.start:
            load_tensors(classifier, Path(config.start) / WEIGHTS_FILE)
        return classifier

    def data_of(some: Sequence[LatentCase], augmented: bool) -> FilmCases:
        return FilmCases(some, Path(config.films), config.flip if augmented else 0.0)

    def save(classifier: nn.Module, place: Path) -> None:
        save_network(classifier.encoder, place / "film_encoder")
        save_tensors(classifier, place / WEIGHTS_FILE)

    bar = Bar("CXR classifier")
    train_and_predict(config, cases, build, data_of, "image", save, out, resume, bar)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"steps": 2, "batch_size": 2}))
