"""From a radiograph to the frame that the networks read: lung location, gate, correction of inverted
greys."""

from dataclasses import dataclass, replace

import numpy as np

from xray2ctpa_core.models.framing.lung_location import LungLocation, locate_lungs_in
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.preprocessing.frame import frame_from_lung_box
from xray2ctpa_core.preprocessing.gate import GateReport, judge
from xray2ctpa_core.preprocessing.side_marker import SideMarker, read_side_marker
from xray2ctpa_core.volume import FrontalFrame, Radiograph
from xray2ctpa_core.wording import INVERTED_RADIOGRAPH

#: Least probability at which the inverted radiograph replaces the original one, if the gate refuses that.
INVERTED_FROM = 0.8


@dataclass(frozen=True)
class RadiographReading:
    """A radiograph, judged and framed.

    Attributes:
        radiograph: the given radiograph, with its grey values inverted back where they were inverted.
        frame: square around the lungs, or around the whole radiograph where no lungs were found.
        gate: report of the input gate.
        lungs: masks, box and class.
        marker: the side marker, None where none was read.
    """

    radiograph: Radiograph
    frame: FrontalFrame
    gate: GateReport
    lungs: LungLocation
    marker: SideMarker | None = None


def frame_radiograph(locator: LungLocator, radiograph: Radiograph) -> RadiographReading:
    """Finds the frame and judges the radiograph; clearly inverted grey values are corrected, with a note.

    A refused radiograph is also judged inverted and rotated, so that the report can name the fault.
    """
    pixels = radiograph.pixels
    lungs = locate_lungs_in(locator, [pixels])[0]
    gate = _judge(lungs, radiograph)
    doubts: tuple[str, ...] = ()
    if not gate.accepted:
        inverted = replace(radiograph, pixels=pixels.max() + pixels.min() - pixels)
        turned = [np.ascontiguousarray(np.rot90(pixels, k)) for k in (1, 2, 3)]
        others = locate_lungs_in(locator, [inverted.pixels, *turned])
        reports = [_judge(o, inverted) for o in others]
        best = int(np.argmax([r.is_frontal_cxr for r in reports]))
        if best == 0 and reports[0].is_frontal_cxr >= INVERTED_FROM:
            radiograph, lungs, doubts = inverted, others[0], (INVERTED_RADIOGRAPH,)
            gate = _judge(lungs, radiograph, doubts)
        elif best > 0 and reports[best].accepted:
            degrees = (0, 90, 180, 270)[best]
            gate = _judge(
                lungs, radiograph, (f"The radiograph seems to be turned by {degrees} degrees clockwise.",)
            )
    marker = None
    if gate.accepted:
        marker = read_side_marker(radiograph.pixels, lungs.box)
        gate = _judge(lungs, radiograph, doubts, marker)
    return RadiographReading(radiograph, _frame(lungs), gate, lungs, marker)


def _judge(
    lungs: LungLocation,
    radiograph: Radiograph,
    doubts: tuple[str, ...] = (),
    marker: SideMarker | None = None,
) -> GateReport:
    height, width = radiograph.pixels.shape
    return judge(
        lungs.class_probabilities,
        lungs.shape,
        (height, width),
        radiograph.view,
        lungs.mirrored,
        doubts,
        radiograph.sides,
        marker,
    )


def _frame(lungs: LungLocation) -> FrontalFrame:
    return lungs.square if lungs.box is None else frame_from_lung_box(*lungs.box)
