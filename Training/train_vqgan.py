"""Trains the 3D VQGAN on crops of volumes: the other codec, in place of the 2D autoencoder.

python Training/train_vqgan.py --out runs/mine/vqgan --config Training/configs/paper-vqgan.json \\
    --set cohort=runs/mine/ctpa distance_weights=/models/radimagenet
python Training/encode_latents.py --out runs/mine/latents --set layout=preprocessed cohort=runs/mine/ctpa \\
    autoencoder=runs/mine/vqgan/vqgan "hu_window=[-100,900]"
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.volumes import CropDataset, training_volumes
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.losses.adversarial import Critics
from xray2ctpa_core.training.stages.vqgan import (
    AdversarialVQGANStage,
    VQGANConfig,
    VQGANStage,
    build_vqgan,
    measured_codebook,
)

#: What `measured_codebook` says of the trained network, over one crop of each training volume.
CODEBOOK_FILE = "codebook.json"


@dataclass(frozen=True)
class Config(LoopConfig, VQGANConfig):
    """layout: of the folder ``cohort``, "preprocessed" (cases of preprocess_ctpa.py; of a data set with
    splits the training cases) or "cohort" (virtual patients); patients: how many of them, 0 for all;
    hu_window: that the volumes were clipped to; crop: (D, H, W) voxels; distance, distance_weights:
    metrics.perceptual.perceptual_distance; discriminator_layers, discriminator_width, opponent_rate: of the
    adversarial term; the rest as in the two classes."""

    layout: str = "preprocessed"
    cohort: str = "runs/paper/ctpa"
    patients: int = 0
    hu_window: tuple[float, ...] = PAPER_HU_WINDOW
    crop: tuple[int, ...] = (64, 128, 128)
    distance: str = "efficientnet"
    distance_weights: str = ""
    discriminator_layers: int = 4
    discriminator_width: int = 64
    opponent_rate: float = 1e-4
    batch_size: int = 2
    learning_rate: float = 2e-4


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/vqgan and ``out``/codebook.json."""
    vqgan = build_vqgan(config)
    check_crop(config, vqgan)
    files = training_volumes(config.layout, Path(config.cohort), config.patients)
    data = CropDataset(files, config.hu_window, config.crop)
    train(made_stage(config, vqgan), data, config, out, resume, Bar("vqgan"))
    save_network(vqgan, out / "vqgan")
    if PartialState().is_main_process:
        crops = (data[(number, number)]["volume"] for number in range(len(data)))
        write_text_atomically(
            out / CODEBOOK_FILE, json.dumps(measured_codebook(vqgan, crops), indent=2) + "\n"
        )


def check_crop(config: Config, vqgan: VQGAN) -> None:
    """Raises ConfigError for a crop that cannot be encoded."""
    if len(config.crop) != 3 or any(
        size < 1 or size % factor for size, factor in zip(config.crop, vqgan.factors, strict=True)
    ):
        raise ConfigError(
            f"Expected a crop (D, H, W) of multiples of {vqgan.factors}, got {config.crop}.", "Set crop."
        )


def made_stage(config: Config, vqgan: VQGAN) -> VQGANStage:
    """The stage, with the networks of the terms that have a weight."""
    distance = None
    if config.perceptual_weight:
        weights = Path(config.distance_weights) if config.distance_weights else None
        distance = perceptual_distance(config.distance, weights)
    if not config.adversarial_weight:
        return VQGANStage(vqgan, config, distance)
    opponent = Critics(config.crop, config.discriminator_layers, config.discriminator_width)
    return AdversarialVQGANStage(vqgan, config, distance, opponent, config.opponent_rate)


if __name__ == "__main__":
    small = {
        "patients": 1,
        "steps": 2,
        "batch_size": 1,
        "channels": [8, 8],
        "depth_strides": [1],
        "codes": 16,
    }
    crops = {"crop": [8, 32, 32], "discriminator_layers": 2, "discriminator_width": 8}
    sys.exit(run_stage(__doc__, Config, run, small | crops))
