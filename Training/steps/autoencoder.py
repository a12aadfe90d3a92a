"""Trains the 2D KL autoencoder on axial slices."""

from pathlib import Path

import torch

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.volumes import SliceDataset, training_volumes
from xray2ctpa_core.models.codecs.slices import to_autoencoder
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.codecs import AutoencoderSettings
from xray2ctpa_core.training.stages.autoencoder import (
    AutoencoderStage,
    build_autoencoder,
)
from xray2ctpa_core.training.stages.linear_start import start_linearly


def run(config: AutoencoderSettings, out: Path) -> None:
    """Trains and saves ``out``/autoencoder."""
    files = training_volumes(Path(config.studies), config.patients)
    data = SliceDataset(files, config.hu_window)
    autoencoder = build_autoencoder(config, data[(0, 0)]["slice"].shape[-1])
    if len(config.channels) == 1:
        examples = torch.stack([data[(number, 0)]["slice"] for number in range(0, len(data), 17)])
        start_linearly(autoencoder, to_autoencoder(examples, config.fold**2))
    stage = AutoencoderStage(autoencoder, config)
    train(stage, data, config, out, Bar("autoencoder"))
    save_network(autoencoder, out / "autoencoder")
