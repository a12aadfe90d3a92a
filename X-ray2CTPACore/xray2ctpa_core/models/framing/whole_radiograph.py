"""The papers' frame: the whole radiograph, resized to the encoder's pixels and normalised."""

import torch

from xray2ctpa_core.models.framing.lung_frame import NOT_JUDGED
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.models.protocols import FramedRadiograph
from xray2ctpa_core.preprocessing.cxr import CxrSettings, radiograph_image
from xray2ctpa_core.preprocessing.frame import resample_square
from xray2ctpa_core.volume import FrontalFrame, Radiograph


class WholeRadiograph:
    """The framing of X-ray2CTPA (section 4.1) and of the other papers' encoders.

    Args:
        locator: judges the radiograph; the frame does not depend on it.
        settings: pixels and normalisation.
    """

    def __init__(self, locator: LungLocator, settings: CxrSettings) -> None:
        self._locator, self._settings = locator, settings

    def __call__(self, radiograph: Radiograph, frame: FrontalFrame | None = None) -> FramedRadiograph:
        """See models.protocols.Framing. The frame is the square that encloses the radiograph; where ``frame``
        is given, only that square is read."""
        if frame is not None:
            square = resample_square(radiograph.pixels, frame, self._settings.pixels)
            image = radiograph_image(square, self._settings)
            return FramedRadiograph(radiograph, frame, NOT_JUDGED, torch.from_numpy(image))
        reading = frame_radiograph(self._locator, radiograph)
        image = radiograph_image(reading.radiograph.pixels, self._settings)
        frame = enclosing_square(reading.radiograph)
        return FramedRadiograph(reading.radiograph, frame, reading.gate, torch.from_numpy(image))


def enclosing_square(radiograph: Radiograph) -> FrontalFrame:
    """The smallest square around the whole radiograph, centred on it."""
    height, width = radiograph.pixels.shape
    side = float(max(height, width))
    return FrontalFrame((height - side) / 2, (width - side) / 2, side)
