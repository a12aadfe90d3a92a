"""People's stage 3: the denoiser of what radiographs leave open of a bent bank: map and tissue.

python Training/train_bank_denoiser.py --out runs/people-default/denoiser
"""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from train_bank_encoder import batches, shape_of, teaching

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.training.checkpoints import has_checkpoint
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.stages.bank_denoiser import BankDenoiserStage


@dataclass(frozen=True)
class Config(LoopConfig):
    """people, without: as for train_bank_encoder.py; encoder: of stage 2; grid, pixels, finer: of what is
    drawn (simulation.people.drawing.Shape), people_mm: voxels people are sampled from; kept: so many patients
    come again and again, 0: each is new; open_patients: drawn to measure what radiographs leave open;
    minutes: of the loop, instead of steps, where above 0; the rest as in the classes used."""

    people: str = "runs/people-default/people"
    without: tuple[str, ...] = ()
    encoder: str = "runs/people-default/encoder/encoder"
    grid: tuple[int, ...] = (64, 48, 64)
    pixels: int = 128
    finer: tuple[int, ...] = (1, 1, 1)
    people_mm: float = 4.0
    kept: int = 0
    open_patients: int = 64
    minutes: float = 0.0
    channels: tuple[int, ...] = (32, 48)
    condition_dim: int = 96
    feature_noise: float = 0.1
    beta_schedule: str = "squaredcos_cap_v2"
    steps: int = 1500
    batch_size: int = 8
    learning_rate: float = 1e-3
    ema_decay: float = 0.998
    precision: str = "no"


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler; a recipe resumes also what has not begun."""
    resume = resume and has_checkpoint(out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    population = teaching(config.people, config.without, config.people_mm, device)
    encoder = BankEncoder.from_pretrained(config.encoder).to(device)
    data = DrawnPatients(population, shape_of(config), config.kept)
    scheduler = DDPMScheduler(
        beta_schedule=config.beta_schedule, prediction_type="v_prediction", clip_sample=False
    )
    denoiser = SpatialDenoiser(
        encoder.config["people"],
        encoder.spatial_channels,
        encoder.embedding_dim,
        config.channels,
        config.condition_dim,
        (1.0,) * encoder.config["people"],
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


def steps_within(
    minutes: float, stage: BankDenoiserStage, data: DrawnPatients, config: Config, tried: int = 4
) -> int:
    """Steps that fit in so many minutes, by the time that a few take; at least 10."""
    generator = torch.Generator(next(stage.module.parameters()).device).manual_seed(0)
    spent = []
    for batch in batches(data, tried * config.batch_size, config.batch_size, 900_000_001):
        began = time.monotonic()
        loss, _ = stage.loss(stage.module, batch, generator)
        loss.backward()
        float(loss.detach())
        spent.append(time.monotonic() - began)
    stage.module.zero_grad(set_to_none=True)
    began = time.monotonic()
    list(batches(data, 2 * config.batch_size, config.batch_size, 800_000_000))
    step = min(spent) + (time.monotonic() - began) / 2
    return max(10, round(60 * minutes / step))


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
