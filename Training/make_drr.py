"""Computed radiographs (DiffDRR) of a data set's CTs, in true size, for pre-training without radiographs.

python Training/make_drr.py --out runs/rspect/drr --config Training/configs/paper-drr.json \\
    --set dataset=rspect root=/data/rspect/train table=/data/rspect/train.csv

preprocess_cxr.py reads what this writes: dataset=folder root=runs/rspect/drr table=runs/rspect/drr/films.csv.
"""

import csv
import functools
import io
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.config import part, write_text_atomically
from xray2ctpa_core.data.cases import case_rows, write_cases
from xray2ctpa_core.data.drr_cases import DRR_FILE, write_drr
from xray2ctpa_core.data.sources import folder
from xray2ctpa_core.data.sources.source import StudySource, read_studies
from xray2ctpa_core.simulation.drr import DrrSettings

FILMS_TABLE = "films.csv"


@dataclass(frozen=True)
class Config(DrrSettings, StudySource):
    """What is read (StudySource) and from where it is projected (DrrSettings); workers: processes, 0 for one
    a processor."""

    workers: int = 0


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes a folder a study and FILMS_TABLE; always goes on with what is there (same settings)."""
    settings = part(DrrSettings, config)
    studies = read_studies(part(StudySource, config))
    identity = asdict(settings) | {"dataset": config.dataset}
    write = functools.partial(write_drr, settings)
    summary = write_cases(out, studies, write, identity, config.workers or os.cpu_count() or 1, Bar("DRR"))
    write_text_atomically(out / FILMS_TABLE, films_table(out))
    print("\n".join(summary.summary_lines()))


def films_table(out: Path) -> str:
    """The complete cases as a table that the data set "folder" reads."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([folder.ID, folder.PATIENT, folder.RADIOGRAPH, folder.LABEL, folder.SPLIT])
    for case in case_rows(out):
        film = f"{case['folder']}/{DRR_FILE}"
        rows.writerow([case["id"], case["patient"], film, case["label"], case["split"]])
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"studies": 1, "workers": 1, "pixels": 32}))
