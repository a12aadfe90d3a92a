"""Trains XctDiff's prior-guided denoiser."""

import functools
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latents import read_statistics
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, save_scaling
from xray2ctpa_core.diffusion.schedulers import xctdiff_schedule
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.xctdiff import PriorDenoiserSettings
from xray2ctpa_core.training.stages.prior_denoiser import PriorDenoiserStage, build_prior_denoiser


def run(config: PriorDenoiserSettings, out: Path) -> None:
    """Trains and saves ``out``/codec and ``out``/encoder, as given, ``out``/scheduler, and ``out``/denoiser,
    with its scaling."""
    cases = read_latent_cases(Path(config.latents))
    cases = training_cases(cases, config.folds, config.fold, config.fold_seed)
    radiographs = Path(config.radiographs) if config.radiographs else None
    channels = read_statistics(Path(config.latents))[0].numel()
    scaling = LatentScaling((0.0,) * channels, (1 / config.latent_factor,) * channels)
    data = StudyData(cases, ("latents", "image"), scaling, radiographs=radiographs)
    encoder = load_part(config.encoder)
    denoiser = build_prior_denoiser(config, channels, encoder.config["latent_channels"])
    schedule = xctdiff_schedule()
    stage = PriorDenoiserStage(denoiser, encoder, schedule, config)
    train(stage, data, config, out, Bar("prior denoiser"))
    save_network(load_part(config.codec), out / "codec")
    save_network(encoder, out / "encoder")
    save_network(schedule, out / "scheduler")
    save_network(denoiser, out / "denoiser", functools.partial(save_scaling, scaling))
