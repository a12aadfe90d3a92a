"""Trains a radiograph encoder: expected latents, embedding, PE and, with an atlas, the map into it.

Real and virtual studies are used alike; unknown targets of a study (map, label) are left out of the loss.
"""

from pathlib import Path

import torch
from steps.pairs import begin_with

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.constants import DEFAULT_GRID
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latents import read_channel_weights, standardised
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.simulation.template import load_template, resampled_hu
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.denoisers import XrayEncoderSettings
from xray2ctpa_core.training.stages.xray_encoder import XrayEncoderStage


def run(config: XrayEncoderSettings, out: Path) -> None:
    """Trains ``out``/xray_encoder."""
    folder = Path(config.latents)
    cases = StudyData(
        training_cases(read_latent_cases(folder), 0, 0, 1),
        ("latents", "image", "label", "findings", *(["map"] if config.atlas_shape else [])),
        standardised(folder),
        augmented=True,
    )
    latents = cases[(0, 0)]["latents"]
    encoder = XrayEncoder(
        config.channels,
        tuple(latents.shape[1:]),
        config.lifted_channels,
        latent_channels=latents.shape[0],
        atlas_shape=config.atlas_shape or None,
        atlas_fold=DEFAULT_GRID[1] // latents.shape[2],
    )
    if encoder.atlas is not None:
        give_atlas(encoder.atlas, config, cases)
    if config.start:
        begin_with(encoder, Path(config.start))
    weights = read_channel_weights(folder)
    stage = XrayEncoderStage(encoder, config.map_weight, config.pe_weight, weights, config.dense_every)
    train(stage, cases, config, out, Bar("radiograph encoder"))
    save_network(encoder, out / "xray_encoder")


def give_atlas(atlas: DeformableAtlas, config: XrayEncoderSettings, data: StudyData) -> None:
    """Sets the atlas to the cohort's template, and its mean map to that of the training studies."""
    mean = data.mean_map()
    hu = torch.from_numpy(resampled_hu(load_template(), config.atlas_shape))  # type: ignore[arg-type]
    atlas.set_atlas(normalise_hu(hu, config.hu_window), mean)
