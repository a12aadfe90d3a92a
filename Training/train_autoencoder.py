"""Stage 3: trains the 2D KL autoencoder on the axial slices of a cohort.

python Training/train_autoencoder.py --out runs/default/autoencoder

Of real data, what preprocess_ctpa.py wrote (the window is the one that it clipped to):
python Training/train_autoencoder.py --out runs/mine/autoencoder --set layout=preprocessed \
    cohort=runs/mine/ctpa "hu_window=[-100,900]"
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.volumes import SliceDataset, training_volumes
from xray2ctpa_core.models.codecs.slices import to_autoencoder
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.stages.autoencoder import (
    AutoencoderConfig,
    AutoencoderStage,
    build_autoencoder,
)
from xray2ctpa_core.training.stages.linear_start import start_linearly


@dataclass(frozen=True)
class Config(LoopConfig, AutoencoderConfig):
    """layout: of the folder ``cohort``, "cohort" (virtual patients) or "preprocessed" (cases of
    preprocess_ctpa.py; of a data set with splits the training cases); patients: how many of them; the rest as
    in the two classes."""

    layout: str = "cohort"
    cohort: str = "runs/default/cohort/train"
    patients: int = 160
    hu_window: tuple[float, ...] = DEFAULT_HU_WINDOW
    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 5e-4


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/autoencoder."""
    files = training_volumes(config.layout, Path(config.cohort), config.patients)
    data = SliceDataset(files, config.hu_window)
    autoencoder = build_autoencoder(config, data[(0, 0)]["slice"].shape[-1])
    if len(config.channels) == 1:
        examples = torch.stack([data[(number, 0)]["slice"] for number in range(0, len(data), 17)])
        start_linearly(autoencoder, to_autoencoder(examples, config.fold**2))
    stage = AutoencoderStage(autoencoder, config)
    train(stage, data, config, out, resume, Bar("autoencoder"))
    save_network(autoencoder, out / "autoencoder")


if __name__ == "__main__":
    sys.exit(
        run_stage(
            __doc__,
            Config,
            run,
            {"patients": 1, "steps": 2, "batch_size": 2, "channels": [48]},
        )
    )
