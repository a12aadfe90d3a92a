"""Adds a trained prior to a bundle, whose results then have a second opinion on PE."""

from pathlib import Path

from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.pipelines.prior_opinion import load_prior_opinion
from xray2ctpa_core.training.settings.cmkd import SecondOpinionSettings


def run(config: SecondOpinionSettings, out: Path) -> None:
    """Writes ``out``/bundle: the bundle with the prior."""
    pipeline = XRay2CTPAPipeline.from_pretrained(config.bundle)
    pipeline.second_opinion = load_prior_opinion(Path(config.opinion))
    pipeline.save_pretrained(out / "bundle")
