"""Trains the denoiser of what radiographs leave open of a bent bank: map and tissue."""

import dataclasses
import time
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from steps.people import DEVICE, batches, teaching

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.training.checkpoints import has_checkpoint
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.people import BankDenoiserSettings
from xray2ctpa_core.training.stages.bank_denoiser import BankDenoiserStage

#: Holds the number of steps that fit in ``minutes``, measured when the training began.
STEPS_FILE = "steps.txt"


def run(config: BankDenoiserSettings, out: Path) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    encoder = BankEncoder.from_pretrained(config.encoder).to(DEVICE)
    data = DrawnPatients(teaching(config), Shape(config.grid, config.pixels, config.finer), config.kept)
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
    ).to(DEVICE)
    stage = BankDenoiserStage(denoiser, encoder, scheduler, config.feature_noise)
    if config.minutes:
        count = out / STEPS_FILE
        if not (has_checkpoint(out) and count.is_file()):
            count.write_text(f"{steps_within(config.minutes, stage, data, config)}\n", encoding="utf-8")
        config = dataclasses.replace(config, steps=int(count.read_text(encoding="utf-8")))
    train(stage, data, config, out, Bar("bank denoiser"))
    save_network(denoiser.cpu(), out / "denoiser")
    save_network(scheduler, out / "scheduler")


@torch.no_grad()
def open_map_std(
    encoder: BankEncoder, data: DrawnPatients, config: BankDenoiserSettings
) -> tuple[float, ...]:
    """(x, y, z): standard deviation of drawn patients' maps about what the encoder expects of them."""
    squares = []
    for batch in batches(data, config.open_patients, config.batch_size, 700_000_000):
        expected = encoder.eval()(batch["image"]).template_map
        change = resized(batch["template_map"] - expected, encoder.latent_grid)
        squares.append(change.square().mean((2, 3, 4)))
    return tuple(torch.cat(squares).mean(0).sqrt().tolist())


def steps_within(
    minutes: float,
    stage: BankDenoiserStage,
    data: DrawnPatients,
    config: BankDenoiserSettings,
    tried: int = 4,
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
