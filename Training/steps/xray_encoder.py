"""Trains the default's radiograph encoder: map into the atlas, expected latents, embedding and PE.

Real and virtual studies are used alike; unknown targets of a study (map, label, signs) are left out of the
loss. Additional real radiographs without labels add a term of the signs' frequency.
"""

from pathlib import Path

import torch

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.constants import DEFAULT_GRID
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latents import read_channel_weights, standardised
from xray2ctpa_core.data.radiograph_cohort import RadiographCohort
from xray2ctpa_core.data.real_radiographs import WithRealRadiographs, radiographs_to_learn_from
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.simulation.signs import SIGNS
from xray2ctpa_core.simulation.template import load_template, resampled_hu
from xray2ctpa_core.training.checkpoints import has_checkpoint
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.denoisers import XrayEncoderSettings
from xray2ctpa_core.training.stages.xray_encoder import XrayEncoderStage


def run(config: XrayEncoderSettings, out: Path, resume: bool) -> None:
    """Trains ``out``/xray_encoder; ``out``/real_films.json lists the real radiographs used in training."""
    if config.real_radiographs and not config.sign_weight:
        raise ConfigError("Expected sign_weight above 0 with real radiographs, which train the sign maps.")
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
        sign_maps=len(SIGNS) if config.sign_weight else 0,
    )
    if config.start:
        encoder = XrayEncoder.from_pretrained(config.start, use_safetensors=True)
    elif encoder.atlas is not None:
        give_atlas(encoder.atlas, config, cases)
    weights = read_channel_weights(folder)
    stage = XrayEncoderStage(
        encoder,
        config.map_weight,
        config.pe_weight,
        weights,
        config.dense_every,
        config.sign_weight,
        config.real_weight,
    )
    data = RadiographCohort(Path(config.radiographs), cases) if config.radiographs else cases
    if config.real_radiographs:
        locator = LungLocator.from_pretrained(config.lung_locator, torch_dtype=torch.float32).eval()
        radiographs, taught = radiographs_to_learn_from(
            Path(config.real_radiographs), locator, config.real_source, Bar("real radiographs")
        )
        data = WithRealRadiographs(data, radiographs)
        taught.save(out)
    train(stage, data, config, out, resume and has_checkpoint(out), Bar("X-ray encoder"))
    save_network(encoder, out / "xray_encoder")


def give_atlas(atlas: DeformableAtlas, config: XrayEncoderSettings, data: StudyData) -> None:
    """Sets the atlas to the cohort's template, and its mean map to that of the training studies."""
    mean = data.mean_map()
    hu = torch.from_numpy(resampled_hu(load_template(), config.atlas_shape))  # type: ignore[arg-type]
    atlas.set_atlas(normalise_hu(hu, config.hu_window), mean)
