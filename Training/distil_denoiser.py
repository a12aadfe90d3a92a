"""Beside the default: makes a few-step denoiser of a trained one, by consistency distillation.

python Training/distil_denoiser.py --out runs/few-step/denoiser
python Training/calibrate.py --out runs/few-step/bundle --config Training/configs/few-step-bundle.json
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.latents import LatentDataset, read_channel_weights
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.stages.consistency import ConsistencyStage
from xray2ctpa_core.training.stages.denoiser import channel_weights


@dataclass(frozen=True)
class Config(LoopConfig):
    """latents, xray_encoder, feature_noise, map_weight: as in train_denoiser.py; teacher: what it made;
    lowest_temperature: as in training.consistency."""

    latents: str = "runs/default/latents/train"
    xray_encoder: str = "runs/default/xray-encoder/xray_encoder"
    teacher: str = "runs/default/denoiser"
    feature_noise: float = 0.1
    map_weight: float = 1.0
    lowest_temperature: float = 0.3
    steps: int = 600
    batch_size: int = 4
    learning_rate: float = 3e-4
    ema_decay: float = 0.99


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    scheduler = DDPMScheduler.from_pretrained(Path(config.teacher) / "scheduler")
    if not 0 < config.lowest_temperature <= 1:
        raise ConfigError(
            f"lowest_temperature must be above 0 and at most 1, got {config.lowest_temperature}."
        )
    data = LatentDataset(Path(config.latents), Path(config.latents), augmented=True)
    encoder = XrayEncoder.from_pretrained(config.xray_encoder)
    student = SpatialDenoiser.from_pretrained(Path(config.teacher) / "denoiser", torch_dtype=torch.float32)
    weights = channel_weights(student, read_channel_weights(Path(config.latents)), config.map_weight)
    stage = ConsistencyStage(
        student, encoder, scheduler, config.feature_noise, weights, config.lowest_temperature
    )
    train(stage, data, config, out, resume, Bar("few-step denoiser"))
    save_network(student, out / "denoiser")
    save_network(scheduler, out / "scheduler")


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"steps": 2, "batch_size": 2}))
