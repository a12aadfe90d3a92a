"""The papers' latent PE classifier: a 3D DenseNet-121 on latents, real or generated.

python Training/train_paper_classifier.py --out runs/mine/classifier \\
    --config Training/configs/paper-classifier.json --set latents=runs/mine/latents

With folds=6 it is trained and tested in stratified six-fold cross-validation. Fine-tuned on generated
    latents: --set latents=runs/mine/generated start=runs/mine/classifier/pe_classifier
"""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.latent_cases import (
    LatentCase,
    LatentCases,
    ScalingConfig,
    latent_scaling,
    read_latent_cases,
)
from xray2ctpa_core.diffusion.latent_scaling import load_scaling, save_scaling
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.training.loop import save_network
from xray2ctpa_core.training.stages.labelled import LabelledConfig, train_and_predict


@dataclass(frozen=True)
class Config(LabelledConfig, ScalingConfig):
    """latents: folder of encode_latents.py or generate_latents.py; start: a pe_classifier folder to go on
    from, with its scaling; flip: probability that latents are mirrored; the rest is MONAI's DenseNet, and as
    in the two classes. ema_decay is 0: averaged weights do not fit batch normalisation's statistics."""

    latents: str = "runs/paper/latents"
    start: str = ""
    flip: float = 0.5
    init_features: int = 64
    growth_rate: int = 32
    block_config: tuple[int, ...] = (6, 12, 24, 16)
    dropout: float = 0.2
    norm: str = "batch"
    first_stride: tuple[int, ...] = (1, 2, 2)
    pool: bool = True
    ema_decay: float = 0.0


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/pe_classifier (of each fold, in its folder), and the arm's predictions."""
    latents = Path(config.latents)
    cases = read_latent_cases(latents, labelled=True)
    scaling = load_scaling(Path(config.start)) if config.start else latent_scaling(config, latents)

    def build() -> nn.Module:
        if config.start:
            return PEClassifier.from_pretrained(config.start)
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

    def data_of(some: Sequence[LatentCase], augmented: bool) -> LatentCases:
        return LatentCases(latents, some, scaling, flip=config.flip if augmented else 0.0)

    def save(classifier: nn.Module, place: Path) -> None:
        save_network(classifier, place / "pe_classifier", functools.partial(save_scaling, scaling))

    bar = Bar("latent classifier")
    train_and_predict(config, cases, build, data_of, "latents", save, out, resume, bar)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"steps": 2, "batch_size": 2, "init_features": 8}))
