"""CTs of a data set (DICOM, NIfTI, NRRD) to the volumes that autoencoder and classifier read.

python Training/preprocess_ctpa.py --out runs/rspect/ctpa --config Training/configs/paper-ctpa.json \\
    --set dataset=rspect root=/data/rspect/train table=/data/rspect/train.csv
"""

import functools
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.config import part
from xray2ctpa_core.data.cases import write_cases
from xray2ctpa_core.data.ctpa_cases import write_ctpa
from xray2ctpa_core.data.sources.source import StudySource, read_studies
from xray2ctpa_core.preprocessing.ctpa import CtpaSettings


@dataclass(frozen=True)
class Config(CtpaSettings, StudySource):
    """What is read (StudySource) and how it is processed (CtpaSettings); workers: processes, 0 for one a
    processor."""

    workers: int = 0


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes a folder a study; always goes on with what is there (same settings)."""
    settings = part(CtpaSettings, config)
    studies = read_studies(part(StudySource, config))
    identity = asdict(settings) | {"dataset": config.dataset}
    write = functools.partial(write_ctpa, settings)
    summary = write_cases(out, studies, write, identity, config.workers or os.cpu_count() or 1, Bar("CTPA"))
    print("\n".join(summary.summary_lines()))


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"studies": 1, "workers": 1}))
