"""What a bundle's opacity reader reads of real radiographs with and without findings.

Prints for fluid and consolidation the mean filled share of the lungs that the lung locator finds, in
radiographs without and with findings, and the AUROC between them. Writes the same to OUT/opacities.json.
"""

import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.cli.stage import Bar, write_report
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.metrics.classification import delong_interval
from xray2ctpa_core.models.encoders.opacity_reader import PUT_IN, OpacityReader
from xray2ctpa_core.models.framing.radiograph_reading import RadiographReading, frame_radiograph
from xray2ctpa_core.pipelines.converted_bundle import gate_locator
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.simulation.opacities import OPACITIES
from xray2ctpa_core.training.settings.gate import MeasureOpacitiesSettings


def run(config: MeasureOpacitiesSettings, out: Path) -> None:
    """Measures, prints, and writes ``out``/opacities.json."""
    with open(config.table, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    found = np.array([row[config.column] != config.none for row in rows])
    if not 0 < found.sum() < len(found):
        raise InputError(
            f"Expected radiographs with and without findings in {config.table}, got {found.sum()} with and "
            f"{(~found).sum()} without.",
            f"A radiograph without has {config.none!r} in the column {config.column}.",
        )
    bundle = resolve_bundle(config.bundle)
    locator = gate_locator(bundle / "lung_locator")
    reader = OpacityReader.from_pretrained(bundle / "opacity_reader").float().eval()
    bar, read = Bar("radiographs"), []
    for row in rows:
        radiograph = read_radiograph(Path(config.table).parent / row["file"])
        read.append(mean_shares(reader, frame_radiograph(locator, radiograph)))
        bar(len(read), len(rows))
    shares = np.array(read)
    content = {
        kind: {
            "without findings": float(shares[~found, number].mean()),
            "with findings": float(shares[found, number].mean()),
            "AUROC": asdict(delong_interval(found, shares[:, number])),
        }
        for number, kind in enumerate(OPACITIES[:PUT_IN])
    }
    text = json.dumps({"without": int((~found).sum()), "with": int(found.sum()), **content}, indent=1)
    write_report(out / "opacities.json", text + "\n")


@torch.no_grad()
def mean_shares(reader: OpacityReader, reading: RadiographReading) -> list[float]:
    """Mean filled share of the lungs with each kind that is put into samples."""
    image = torch.from_numpy(frame_image(reading.radiograph.pixels, reading.frame)).float()
    shares = reader.shares(image[None, None])[0].numpy()
    lungs, frame, square = reading.lungs.mask.any(0), reading.frame, reading.lungs.square
    places = (np.arange(shares.shape[1]) + 0.5) / shares.shape[1] * frame.side
    step = square.side / len(lungs)
    rows, columns = (
        np.clip((places + corner - other) / step, 0, len(lungs) - 1).astype(int)
        for corner, other in ((frame.top, square.top), (frame.left, square.left))
    )
    weight = lungs[np.ix_(rows, columns)]
    return [float((share * weight).sum() / max(weight.sum(), 1)) for share in shares]
