"""Stage 7: trains the PE classifier on the latents of real (here: virtual patients' own) CTPAs.

python Training/train_pe_classifier.py --out runs/default/pe-classifier
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.datasets.latents import LatentDataset
from xray2ctpa_core.networks.pe_classifier import PEClassifier
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.pe_classifier import PEClassifierStage, fit_readout


@dataclass(frozen=True)
class Config(LoopConfig):
    """latents: folder of stage 4; clot_weight: of the clot map's cross-entropy, 0 for none; signs_weight: of
    the signs' beside it; noise: largest, added to standardised latents; the rest is MONAI's DenseNet."""

    latents: str = "runs/default/latents/train"
    init_features: int = 16
    growth_rate: int = 8
    block_config: tuple[int, ...] = (4, 4, 4)
    first_stride: tuple[int, ...] = (2, 1, 1)
    places: tuple[int, ...] = (4, 4, 4)
    dropout: float = 0.2
    noise: float = 0.3
    clot_weight: float = 20.0
    signs_weight: float = 1.0
    steps: int = 1300
    learning_rate: float = 2e-3
    weight_decay: float = 5e-2


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/pe_classifier."""
    data = LatentDataset(
        Path(config.latents), Path(config.latents), augmented=False, clots=config.clot_weight > 0
    )
    classifier = PEClassifier(
        latent_channels=data[(0, 0)]["latents"].shape[0],
        init_features=config.init_features,
        growth_rate=config.growth_rate,
        block_config=config.block_config,
        dropout=config.dropout,
        first_stride=config.first_stride,
        places=config.places,
        clot_head=config.clot_weight > 0,
    )
    train(
        PEClassifierStage(classifier, config.noise, config.clot_weight, config.signs_weight),
        data,
        config,
        out,
        resume,
        Bar("PE classifier"),
    )
    if config.clot_weight > 0:
        agreement = fit_readout(classifier, (data[(case, 0)] for case in range(len(data))))
        print(f"Log-odds of PE by the signs, read off the features: correlation {agreement:.2f} in training")
    save_network(classifier, out / "pe_classifier")


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"steps": 2, "batch_size": 2, "init_features": 8}))
