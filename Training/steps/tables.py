"""Fills the papers' Tables 1 to 7 from evaluated arms, as CSV, Markdown and PNG, for any data set.

An arm is a folder with arm.json {"name", "kind": "classifier" or "generator", "dataset"}, and predictions.csv
(patient, fold, split, label, score), pairs.csv (patient, real, generated, and gradcam where there is one) or
both. The definition (configs/paper-tables.json) assigns arms to rows; the row of a missing arm says "not
measured".
"""

import sys
from pathlib import Path

from xray2ctpa_core.cli.bars import Bars
from xray2ctpa_core.evaluation.columns import PLANES
from xray2ctpa_core.evaluation.instruments import make_instruments
from xray2ctpa_core.evaluation.store import RowStore
from xray2ctpa_core.evaluation.tables.arms import find_arms
from xray2ctpa_core.evaluation.tables.definition import read_definitions
from xray2ctpa_core.evaluation.tables.generator import VolumeBench
from xray2ctpa_core.evaluation.tables.run import (
    measure_arms,
    write_embeddings,
    write_plates,
    write_tables,
)
from xray2ctpa_core.metrics.perceptual import ALEXNET_FILE
from xray2ctpa_core.training.settings.tables import TablesSettings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def run(config: TablesSettings, out: Path) -> None:
    """Writes tables and figures into ``out``; volumes that are already measured are not measured again."""
    definition = Path(config.tables) if Path(config.tables).suffix else CONFIGS / f"{config.tables}.json"
    definitions = read_definitions(definition)
    arms = find_arms([Path(folder) for folder in config.arms], config.dataset)
    asked = {column for table in definitions for column in (*table.metrics, *table.compare)}
    planes = ("planes",) if asked & {"planes", *PLANES} else ()
    instruments = make_instruments(("fvd", "fid", *planes), config.weights)
    bench = VolumeBench(config.hu_window, instruments, RowStore(out / "rows.jsonl"))
    with Bars() as bars:
        measured = measure_arms(arms, bench, bars.show, config.volumes)
    for table in write_tables(definitions, measured, instruments.titles, out, note(bench)):
        print(table.markdown())
    write_embeddings(measured, out, config.seed)
    write_plates(measured, config.plates, out)
    rows = {row.arm for table in definitions for row in table.rows}
    unused = [name for name in measured if name not in rows]
    if unused:
        print(f"In no table's rows: {', '.join(unused)}.", file=sys.stderr)


def note(bench: VolumeBench) -> str:
    """Text with the HU window of all image metrics, and the reason for a missing LPIPS."""
    text = f"Image numbers in the window of {bench.window[0]:g} to {bench.window[1]:g} HU."
    if bench.instruments.lpips is None:
        text += f" LPIPS was not measured: its weights ({ALEXNET_FILE}) are not on this machine."
    return text
