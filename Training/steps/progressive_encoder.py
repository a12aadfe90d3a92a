"""Trains XctDiff's progressive encoder on its own."""

from pathlib import Path

from steps.pairs import begin_with, pairs

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.xctdiff import ProgressiveEncoderSettings
from xray2ctpa_core.training.stages.progressive_encoder import (
    ProgressiveEncoderStage,
    build_progressive_encoder,
)


def run(config: ProgressiveEncoderSettings, out: Path) -> None:
    """Trains and saves ``out``/encoder."""
    encoder = build_progressive_encoder(config)
    if config.start:
        begin_with(encoder, Path(config.start))
    stage = ProgressiveEncoderStage(encoder, config)
    train(stage, pairs(config), config, out, Bar("progressive encoder"))
    save_network(encoder, out / "encoder")
