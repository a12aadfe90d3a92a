"""Stage 5: makes films without volumes, with their maps into the atlas, for the X-ray encoder.

python Training/make_films.py --out runs/default/films
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.radiograph_cohort import write_film_cohort


@dataclass(frozen=True)
class Config:
    """patients, variants: films, and augmented frames of each; cohort_seed: none of make_cohort.py's;
    workers: processes; 0 for one a processor."""

    patients: int = 2600
    variants: int = 3
    cohort_seed: int = 4
    workers: int = 0


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes ``out``; always goes on with what is there (same settings)."""
    workers = config.workers or os.cpu_count() or 1
    write_film_cohort(out, config.patients, config.variants, config.cohort_seed, workers, Bar("films"))


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"patients": 1, "variants": 1, "workers": 1}))
