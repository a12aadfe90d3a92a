"""People's stage 3: the denoiser of what radiographs leave open of a bent bank: map and tissue.

python Training/train_bank_denoiser.py --out runs/default/bank-denoiser
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from train_bank_encoder import Config as Drawing
from train_bank_encoder import batches, shape_of, steps_within, teaching

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.stages.bank_denoiser import BankDenoiserStage


@dataclass(frozen=True)
class Config(Drawing):
    """encoder: of stage 2; open_patients: drawn to measure what radiographs leave open; the rest as there and
    in the classes used."""

    encoder: str = "runs/default/bank-encoder/encoder"
    open_patients: int = 64
    channels: tuple[int, ...] = (48, 64)
    condition_dim: int = 128
    feature_noise: float = 0.1
    beta_schedule: str = "squaredcos_cap_v2"
    learning_rate: float = 1e-3
    ema_decay: float = 0.998


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    population = teaching(config.people, config.without, config.people_mm, device)
    encoder = BankEncoder.from_pretrained(config.encoder).to(device)
    if encoder.config["people"] != len(population.names):
        raise ConfigError(
            f"Expected the {encoder.config['people']} people of {config.encoder}, got "
            f"{len(population.names)}: {', '.join(population.names)}.",
            "Give the same people and without as to train_bank_encoder.py.",
        )
    data = DrawnPatients(population, shape_of(config), config.kept)
    scheduler = DDPMScheduler(
        beta_schedule=config.beta_schedule, prediction_type="v_prediction", clip_sample=False
    )
    denoiser = SpatialDenoiser(
        len(population.names),
        encoder.spatial_channels,
        encoder.config["embedding_dim"],
        config.channels,
        config.condition_dim,
        (1.0,) * len(population.names),
        open_map_std(encoder, data, config),
    ).to(device)
    stage = BankDenoiserStage(denoiser, encoder, scheduler, config.feature_noise)
    if config.minutes and not resume:
        config = dataclasses.replace(config, steps=steps_within(config.minutes, stage, data, config))
    train(stage, data, config, out, resume, Bar("bank denoiser"))
    save_network(denoiser.cpu(), out / "denoiser")
    save_network(scheduler, out / "scheduler")


@torch.no_grad()
def open_map_std(encoder: BankEncoder, data: DrawnPatients, config: Config) -> tuple[float, ...]:
    """(x, y, z): standard deviation of drawn patients' maps about what the encoder expects of them."""
    squares = []
    for batch in batches(data, config.open_patients, config.batch_size, 700_000_000):
        expected = encoder.eval()(batch["image"]).template_map
        change = resized(batch["template_map"] - expected, encoder.latent_grid)
        squares.append(change.square().mean((2, 3, 4)))
    return tuple(torch.cat(squares).mean(0).sqrt().tolist())


if __name__ == "__main__":
    small = {
        "grid": [16, 16, 16],
        "pixels": 32,
        "finer": [1, 1, 1],
        "people_mm": 8.0,
        "open_patients": 2,
        "channels": [16, 16],
        "condition_dim": 16,
        "steps": 2,
        "batch_size": 2,
    }
    sys.exit(run_stage(__doc__, Config, run, small))
