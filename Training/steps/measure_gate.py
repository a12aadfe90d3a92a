"""What the input gate says of radiographs, as they are and turned a little: figures of preprocessing/gate.py.

Prints of each folder of upright, whole frontal radiographs how many are accepted, in which range their lungs'
aspect and area lie, the 99th percentile of their tilt, how many pass the gate's threshold of tilt as
they are and turned by TURNED degrees either way, what it makes of their middle (CROPPED of the content's
height and width), and what is read of their side markers; of folders of CTs, what it makes of their
projections, straight and oblique (OBLIQUE). Writes the same to OUT/gate.txt.
"""

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.cli.stage import write_report
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.radiograph import radiographs_below, read_radiograph
from xray2ctpa_core.models.framing.lung_location import locate_lungs_in
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.pipelines.converted_bundle import gate_locator
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.preprocessing.content import content_box
from xray2ctpa_core.preprocessing.gate import TILTED_FROM, GateReport
from xray2ctpa_core.preprocessing.grid import isotropic_grid, resample_onto, to_axial
from xray2ctpa_core.preprocessing.lung_box import LungShape
from xray2ctpa_core.preprocessing.side_marker import SideMarker
from xray2ctpa_core.preprocessing.sides import marker_sentence
from xray2ctpa_core.simulation.projection import attenuation, develop, project
from xray2ctpa_core.training.settings.gate import MeasureGateSettings
from xray2ctpa_core.volume import Radiograph, Volume

TURNED = 12.0
#: Share of height and width that a crop leaves; angles in degrees about the body's axis.
CROPPED, OBLIQUE = 0.6, (0, 15, 30, 45)
#: Size of a CT's voxel, and how many pixels of a computed radiograph lie along it: small ones are warned of.
_CT_MM, _FINER = 2.0, 3
_AIR_HU = -1000.0


def run(config: MeasureGateSettings, out: Path) -> None:
    """Measures, prints, and writes ``out``/gate.txt."""
    locator = gate_locator(resolve_bundle(config.bundle) / "lung_locator")
    text = "".join(measured(locator, Path(folder)) for folder in config.folders)
    text += "".join(obliques(locator, Path(folder)) for folder in config.cts)
    write_report(out / "gate.txt", text)


def measured(locator: LungLocator, folder: Path) -> str:
    """What the gate says of the radiographs in ``folder``, in sentences."""
    accepted, shapes, turned, markers, middles = [], [], [], [], []
    for path in radiographs_below(folder):
        radiograph = read_radiograph(path)
        reading = frame_radiograph(locator, radiograph)
        accepted.append(reading.gate.accepted)
        middles.append(frame_radiograph(locator, Radiograph(middle(radiograph.pixels))).gate)
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
        f"Of their middle {CROPPED:.0%}, {judged(middles)}. {marked(markers)}\n"
    )


def middle(pixels: np.ndarray) -> np.ndarray:
    """The middle of the content of ``pixels`` (H, W), CROPPED of its height and width."""
    top, left, bottom, right = content_box(pixels)
    rows, columns = (round((1 - CROPPED) / 2 * n) for n in (bottom - top, right - left))
    return np.ascontiguousarray(pixels[top + rows : bottom - rows, left + columns : right - columns])


def judged(reports: list[GateReport]) -> str:
    """How many are accepted, and how many of those without a doubt."""
    accepted = [report for report in reports if report.accepted]
    silent = sum(not report.warnings for report in accepted)
    return f"{len(accepted)} of {len(reports)} are accepted, {silent} without a warning"


def obliques(locator: LungLocator, folder: Path) -> str:
    """What the gate says of projections of the CTs in ``folder``, straight and oblique to either side."""
    reports: dict[int, list[GateReport]] = {angle: [] for angle in OBLIQUE}
    paths = sorted(folder.glob("*.nii.gz"))
    for path in paths:
        volume = to_axial(read_ct(path).volume)
        cubes = resample_onto(volume, *isotropic_grid(volume, _CT_MM))
        for angle in OBLIQUE:
            for side in {angle, -angle}:
                reports[angle].append(frame_radiograph(locator, Radiograph(projected(cubes, side))).gate)
    said = "; ".join(f"at {angle} degrees {judged(found)}" for angle, found in reports.items())
    return f"{folder.name}: of projections of {len(paths)} CTs, {said}.\n"


def projected(cubes: Volume, angle: float) -> np.ndarray:
    """(_FINER * D, _FINER * W) in [0, 1]: the PA radiograph of an axial volume, turned by ``angle`` degrees
    about the body's axis."""
    turned = ndimage.rotate(cubes.array, angle, axes=(1, 2), order=1, cval=_AIR_HU)
    depth = (torch.arange(turned.shape[1]) - (turned.shape[1] - 1) / 2) * _CT_MM
    values = attenuation(torch.from_numpy(np.ascontiguousarray(turned, dtype=np.float32)))
    lines = project(values, depth, (0.0, 0.0)).numpy()[::-1]
    radiograph = develop(np.ascontiguousarray(lines), np.random.default_rng(0))
    return radiograph.repeat(_FINER, axis=0).repeat(_FINER, axis=1)


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
