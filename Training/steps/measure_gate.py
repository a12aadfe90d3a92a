"""What the input gate says of radiographs, as they are and turned a little: figures of preprocessing/gate.py.

Prints of each folder of upright, whole frontal radiographs how many are accepted, in which range their lungs'
aspect and area lie, the 99th percentile of their tilt, how many pass the gate's threshold of tilt as
they are and turned by TURNED degrees either way, and what is read of their side markers. Writes the same to
OUT/gate.txt.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

from xray2ctpa_core.cli.stage import write_report
from xray2ctpa_core.io.radiograph import radiographs_below, read_radiograph
from xray2ctpa_core.models.framing.lung_location import locate_lungs_in
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.pipelines.converted_bundle import gate_locator
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.preprocessing.gate import TILTED_FROM
from xray2ctpa_core.preprocessing.lung_box import LungShape
from xray2ctpa_core.preprocessing.side_marker import SideMarker
from xray2ctpa_core.preprocessing.sides import marker_sentence
from xray2ctpa_core.training.settings.gate import MeasureGateSettings

TURNED = 12.0


def run(config: MeasureGateSettings, out: Path) -> None:
    """Measures, prints, and writes ``out``/gate.txt."""
    locator = gate_locator(resolve_bundle(config.bundle) / "lung_locator")
    text = "".join(measured(locator, Path(folder)) for folder in config.folders)
    write_report(out / "gate.txt", text)


def measured(locator: LungLocator, folder: Path) -> str:
    """What the gate says of the radiographs in ``folder``, in sentences."""
    accepted, shapes, turned, markers = [], [], [], []
    for path in radiographs_below(folder):
        radiograph = read_radiograph(path)
        reading = frame_radiograph(locator, radiograph)
        accepted.append(reading.gate.accepted)
        markers += [] if reading.marker is None else [(path.name, reading.marker)]
        if not all(reading.lungs.shape.heights):
            continue
        shapes.append(reading.lungs.shape)
        pixels = reading.radiograph.pixels
        other = [ndimage.rotate(pixels, a, reshape=False, order=1) for a in (TURNED, -TURNED)]
        turned += [location.shape for location in locate_lungs_in(locator, other)]
    tilts = np.array([abs(shape.tilt_degrees) for shape in shapes])
    return (
        f"{folder.name}: {sum(accepted)} of {len(accepted)} radiographs are accepted. Of {len(shapes)} with "
        f"both lungs their box is {span([s.aspect for s in shapes])} times as wide as high, they cover "
        f"{span([sum(s.areas) for s in shapes])} of the square, and the 99th percentile of their tilt is "
        f"{np.quantile(tilts, 0.99):.1f} degrees. More than {TILTED_FROM:g} degrees have {tilted(shapes)} "
        f"as they are, {tilted(turned)} turned by {TURNED:g} degrees either way. "
        f"{marked(markers)}\n"
    )


def marked(markers: list[tuple[str, SideMarker]]) -> str:
    """How many side markers were read, and on which radiographs one lies on the other side."""
    backwards = sum(marker.mirrored for _, marker in markers)
    others = [f"{name} ({marker_sentence(marker)})" for name, marker in markers if not marker.as_expected]
    return (
        f"Side markers read: {len(markers)}, {backwards} of them written backwards; on the other side than "
        f"expected: {', '.join(others) or 'none'}."
    )


def span(values: list[float]) -> str:
    """Least and greatest of ``values``."""
    return f"{min(values):.2f} to {max(values):.2f}"


def tilted(shapes: list[LungShape]) -> str:
    """How many of ``shapes`` the gate calls turned."""
    count = sum(abs(shape.tilt_degrees) > TILTED_FROM for shape in shapes)
    return f"{count} of {len(shapes)} ({count / len(shapes):.0%})"
