"""Trains a few-step denoiser by consistency distillation of a trained one (Song et al., ICML 2023)."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler
from steps.spatial_denoiser import study_data

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.latents import read_channel_weights
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.denoisers import ConsistencySettings
from xray2ctpa_core.training.stages.consistency import ConsistencyStage
from xray2ctpa_core.training.stages.denoiser import channel_weights


def run(config: ConsistencySettings, out: Path) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    scheduler = DDPMScheduler.from_pretrained(Path(config.teacher) / "scheduler")
    encoder = XrayEncoder.from_pretrained(config.xray_encoder, use_safetensors=True)
    data = study_data(Path(config.latents), encoder)
    student = SpatialDenoiser.from_pretrained(Path(config.teacher) / "denoiser", torch_dtype=torch.float32)
    weights = channel_weights(student, read_channel_weights(Path(config.latents)), config.map_weight)
    stage = ConsistencyStage(
        student, encoder, scheduler, config.feature_noise, weights, config.lowest_temperature
    )
    train(stage, data, config, out, Bar("few-step denoiser"))
    save_network(student, out / "denoiser")
    save_network(scheduler, out / "scheduler")
