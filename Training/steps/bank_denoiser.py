"""Trains the denoiser of what radiographs leave open of a bent bank: map and tissue."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler
from steps.people import DEVICE, teaching

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.drawn_patients import AT_ONCE, DrawnPatients
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.training.bank_read_outs import fit_open_components
from xray2ctpa_core.training.checkpoints import has_checkpoint
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.people import BankDenoiserSettings
from xray2ctpa_core.training.stages.bank_denoiser import BankDenoiserStage


def run(config: BankDenoiserSettings, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    encoder = BankEncoder.from_pretrained(config.encoder).to(DEVICE).eval()
    shape = Shape(config.grid, config.pixels, config.finer)
    data = DrawnPatients(teaching(config), shape, config.kept, keys=("image", "template_map"))
    scheduler = DDPMScheduler(
        beta_schedule=config.beta_schedule, prediction_type="v_prediction", clip_sample=False
    )
    denoiser = BankDenoiser(
        encoder.config["people"], config.components, encoder.embedding_dim, config.width, config.blocks
    ).to(DEVICE)
    bar, drawn = Bar("patients"), []
    for first in range(0, config.kept, AT_ONCE):
        cases = range(first, min(first + AT_ONCE, config.kept))
        items = data.__getitems__([(case, 0) for case in cases])
        drawn.append({name: torch.stack([item[name] for item in items]) for name in items[0]})
        bar(cases[-1] + 1, config.kept)
    fit_open_components(denoiser, encoder, drawn)
    stage = BankDenoiserStage(denoiser, encoder, scheduler, config.feature_noise)
    train(stage, data, config, out, resume and has_checkpoint(out), Bar("bank denoiser"))
    save_network(denoiser.cpu(), out / "denoiser")
    save_network(scheduler, out / "scheduler")
