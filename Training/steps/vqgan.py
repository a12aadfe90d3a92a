"""Trains the 3D VQGAN on crops of volumes, a codec in place of the 2D autoencoder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import write_json
from xray2ctpa_core.data.volumes import CropDataset, training_volumes
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.losses.adversarial import Critics
from xray2ctpa_core.training.settings.codecs import VQGANSettings
from xray2ctpa_core.training.stages.vqgan import (
    AdversarialVQGANStage,
    VQGANStage,
    build_vqgan,
    measured_codebook,
)

#: File with the result of `measured_codebook` for the trained network on whole training volumes.
CODEBOOK_FILE = "codebook.json"


def run(config: VQGANSettings, out: Path) -> None:
    """Trains and saves ``out``/codebook.json and ``out``/vqgan."""
    vqgan = build_vqgan(config)
    check_crop(config, vqgan)
    files = training_volumes(Path(config.studies), config.patients)
    data = CropDataset(files, config.hu_window, config.crop)
    train(made_stage(config, vqgan), data, config, out, Bar("vqgan"))
    if PartialState().is_main_process:
        found = measured_codebook(vqgan, whole_volumes(files, config.hu_window, vqgan.factors))
        write_json(out / CODEBOOK_FILE, found)
    save_network(vqgan, out / "vqgan")


def whole_volumes(
    files: Sequence[Path], window: Sequence[float], factors: Sequence[int]
) -> Iterator[torch.Tensor]:
    """Each volume (1, D, H, W) in [-1, 1], cropped at the end to multiples of ``factors``."""
    for file in files:
        array = read_volume(file).array.astype(np.float32)
        box = tuple(slice(size - size % factor) for size, factor in zip(array.shape, factors, strict=True))
        yield normalise_hu(torch.from_numpy(array[box]), window)[None]


def check_crop(config: VQGANSettings, vqgan: VQGAN) -> None:
    """Raises ConfigError for a crop that cannot be encoded."""
    if len(config.crop) != 3 or any(
        size < 1 or size % factor for size, factor in zip(config.crop, vqgan.factors, strict=True)
    ):
        raise ConfigError(
            f"Expected a crop (D, H, W) of multiples of {vqgan.factors}, got {config.crop}.", "Set crop."
        )


def made_stage(config: VQGANSettings, vqgan: VQGAN) -> VQGANStage:
    """The stage, with the networks of the terms with a weight above 0."""
    distance = None
    if config.perceptual_weight:
        weights = Path(config.distance_weights) if config.distance_weights else None
        distance = perceptual_distance(config.distance, weights)
    if not config.adversarial_weight:
        return VQGANStage(vqgan, config, distance)
    opponent = Critics(config.crop, config.discriminator_layers, config.discriminator_width)
    return AdversarialVQGANStage(vqgan, config, distance, opponent, config.opponent_rate)
