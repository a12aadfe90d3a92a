"""Trains the opacity reader on drawn patients."""

from pathlib import Path

from steps.people import teaching

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.models.encoders.opacity_reader import OpacityReader
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.simulation.people.findings import frequent_findings
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.people import OpacityReaderSettings
from xray2ctpa_core.training.stages.opacity_reader import OpacityReaderStage


def run(config: OpacityReaderSettings, out: Path) -> None:
    """Trains and saves ``out``/opacity_reader."""
    shape = Shape(config.grid, config.pixels, config.finer)
    data = DrawnPatients(teaching(config), shape, config.kept, frequent_findings, ("image", "opaque"))
    reader = OpacityReader(config.channels, config.size, config.floor)
    train(OpacityReaderStage(reader), data, config, out, Bar("opacity reader"))
    save_network(reader.cpu().half(), out / "opacity_reader")
