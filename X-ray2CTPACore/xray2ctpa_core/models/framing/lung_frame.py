"""The frame of this project's own networks: the square around the lungs, with equalised grey values."""

import torch

from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.models.protocols import FramedRadiograph
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.preprocessing.gate import GateReport
from xray2ctpa_core.volume import FrontalFrame, Radiograph

#: The gate's report where the caller gives the frame: the radiograph is not judged.
NOT_JUDGED = GateReport(1.0, (), True)


class LungFrame:
    """The square frame around the lungs, found by a network.

    Args:
        locator: finds the lungs and judges the radiograph.
        pixels: P, along a side of the image.
    """

    def __init__(self, locator: LungLocator, pixels: int) -> None:
        self._locator, self._pixels = locator, pixels

    def __call__(self, radiograph: Radiograph, frame: FrontalFrame | None = None) -> FramedRadiograph:
        """See models.protocols.Framing; the image is in [0, 1]."""
        gate = NOT_JUDGED
        if frame is None:
            reading = frame_radiograph(self._locator, radiograph)
            radiograph, frame, gate = reading.radiograph, reading.frame, reading.gate
        image = torch.from_numpy(frame_image(radiograph.pixels, frame, self._pixels))
        return FramedRadiograph(radiograph, frame, gate, image)
