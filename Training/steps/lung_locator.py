"""Trains the lung locator and input gate on simulated radiographs that are drawn during training."""

from pathlib import Path

import numpy as np

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.simulation.locator_radiographs import LocatorRadiographs
from xray2ctpa_core.simulation.radiograph_layers import frontal_and_other_views
from xray2ctpa_core.simulation.template import load_template
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.denoisers import LungLocatorSettings
from xray2ctpa_core.training.stages.lung_locator import DrawnRadiographs, LungLocatorStage


def run(config: LungLocatorSettings, out: Path) -> None:
    """Trains and saves ``out``/lung_locator."""
    template = load_template()
    rng = np.random.default_rng(config.seed)
    frontal, other = frontal_and_other_views(template, config.frontal_views, config.other_views, rng)
    radiographs = LocatorRadiographs(template, frontal, other, 1, config.seed)
    locator = LungLocator()
    stage = LungLocatorStage(locator, config.class_weight)
    train(stage, DrawnRadiographs(radiographs), config, out, Bar("lung locator"))
    save_network(locator.half(), out / "lung_locator")
