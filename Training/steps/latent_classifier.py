"""Trains the papers' latent PE classifier, a 3D DenseNet-121, on real or generated latents."""

import functools
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.latent_cases import LatentCase, read_latent_cases
from xray2ctpa_core.data.latents import latent_scaling
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.diffusion.latent_scaling import load_scaling, save_scaling
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.training.loop import save_network
from xray2ctpa_core.training.settings.classifiers import LatentClassifierSettings
from xray2ctpa_core.training.stages.labelled import train_and_predict


def run(config: LatentClassifierSettings, out: Path) -> None:
    """Trains and saves ``out``/pe_classifier (of each fold, in its folder), and the arm's predictions."""
    latents = Path(config.latents)
    cases = read_latent_cases(latents, labelled=True)
    scaling = load_scaling(Path(config.start)) if config.start else latent_scaling(config, latents)

    def build() -> nn.Module:
        if config.start:
            return PEClassifier.from_pretrained(config.start, use_safetensors=True)
        return PEClassifier(
            latent_channels=len(scaling.shift),
            init_features=config.init_features,
            growth_rate=config.growth_rate,
            block_config=config.block_config,
            dropout=config.dropout,
            norm=config.norm,
            first_stride=config.first_stride,
            pool=config.pool,
        )

    def data_of(some: Sequence[LatentCase], augmented: bool) -> StudyData:
        flip = config.flip if augmented else 0.0
        return StudyData(some, ("latents", "label"), scaling, flip=flip, labelled=True)

    def save(classifier: nn.Module, place: Path) -> None:
        save_network(classifier, place / "pe_classifier", functools.partial(save_scaling, scaling))

    bar = Bar("latent classifier")
    train_and_predict(config, cases, build, data_of, "latents", save, out, bar)
