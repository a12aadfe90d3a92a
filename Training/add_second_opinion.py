"""Adds a trained prior to a bundle, whose results then have a second opinion on PE.

python Training/add_second_opinion.py --out runs/mine/with-prior \\
    --set bundle=virtual-thorax opinion=runs/mine/cmkd/prior/fold-0/second_opinion
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import run_stage
from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.pipelines.prior_opinion import load_prior_opinion


@dataclass(frozen=True)
class Config:
    """bundle: name, folder or Hub id of the bundle; opinion: folder second_opinion of a fold from
    train_cmkd.py with method=prior."""

    bundle: str = DEFAULT_BUNDLE
    opinion: str = ""


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - made in a second
    """Writes ``out``/bundle: the bundle with the prior."""
    if not config.opinion:
        raise ConfigError("Expected opinion, the folder second_opinion of a prior, got none.")
    pipeline = XRay2CTPAPipeline.from_pretrained(config.bundle)
    pipeline.second_opinion = load_prior_opinion(Path(config.opinion))
    pipeline.save_pretrained(out / "bundle")


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {}))
