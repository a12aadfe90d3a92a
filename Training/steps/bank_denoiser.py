"""Trains the denoiser of what radiographs leave open of a bent bank: map and tissue."""

import time
from dataclasses import replace
from pathlib import Path

from diffusers import DDPMScheduler
from steps.people import DEVICE, taught

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.drawn_patients import AT_ONCE
from xray2ctpa_core.data.splits import VALIDATION
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.training.bank_read_outs import fit_open_components
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.people import BankDenoiserSettings
from xray2ctpa_core.training.stages.bank_denoiser import BankDenoiserStage, OpenPatients

#: The patients have seeds from here on, of which the encoder drew none: its own it knows too well.
_FIRST_SEED = 700_000_000


def run(config: BankDenoiserSettings, out: Path) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    began = time.process_time()
    encoder = BankEncoder.from_pretrained(config.encoder).to(DEVICE).eval()
    shape = Shape(config.grid, config.pixels, config.finer)
    scheduler = DDPMScheduler(
        beta_schedule=config.beta_schedule, prediction_type="v_prediction", clip_sample=False
    )
    denoiser = BankDenoiser(
        encoder.config["people"], config.components, encoder.embedding_dim, config.width, config.blocks
    ).to(DEVICE)

    patients = taught(config, shape, config.patients, AT_ONCE, _FIRST_SEED, VALIDATION)
    embedding, numbers = fit_open_components(denoiser, encoder, patients)
    stage = BankDenoiserStage(denoiser, scheduler, config.feature_noise)
    if config.processor_seconds:  # the patients are a part of them
        left = config.processor_seconds - (time.process_time() - began)
        config = replace(config, processor_seconds=max(left, 1.0))
    train(stage, OpenPatients(embedding.cpu(), numbers.cpu()), config, out, Bar("bank denoiser"))
    save_network(denoiser.cpu(), out / "denoiser")
    save_network(scheduler, out / "scheduler")
