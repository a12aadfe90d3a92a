"""Trains X2CT-CNN, X2CT-GAN or ReconNet: a denoiser of one step, for the identity codec."""

from pathlib import Path

from diffusers import DDIMScheduler
from steps.pairs import pairs

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.models.encoders.radiograph_itself import RadiographItself
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.xctdiff import RegressorSettings
from xray2ctpa_core.training.stages.regressor import (
    AdversarialRegressorStage,
    RegressorStage,
    build_judge,
    build_regressor,
)


def run(config: RegressorSettings, out: Path) -> None:
    """Trains and saves ``out``/encoder, the radiograph itself, ``out``/scheduler, for one step, and
    ``out``/denoiser."""
    network = build_regressor(config)
    stage = RegressorStage(network, config)
    if config.adversarial_weight:
        judge = build_judge(config.discriminator_layers, config.discriminator_width)
        stage = AdversarialRegressorStage(network, config, judge, config.opponent_rate)
    train(stage, pairs(config), config, out, Bar(config.network))
    save_network(RadiographItself(), out / "encoder")
    save_network(one_step_schedule(), out / "scheduler")
    save_network(network, out / "denoiser")


def one_step_schedule() -> DDIMScheduler:
    """A schedule whose result is the network's output, in one step or several."""
    return DDIMScheduler(prediction_type="sample", clip_sample=False)
