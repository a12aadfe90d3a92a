"""How large a radiograph's pixels are, by a DICOM header: at the detector, or in the patient already.

Design, section 4; PS3.3 10.7.1.3 says what PixelSpacing beside ImagerPixelSpacing means.
"""

import math
from dataclasses import dataclass

from pydicom.dataset import Dataset

from xray2ctpa_core.constants import DETECTOR_TO_CENTRE_MM
from xray2ctpa_core.io.dicom_header import integer, number, numbers, text
from xray2ctpa_core.io.raw_radiograph import size_doubt

#: Pixel sizes that writers put where they know none: 1 mm, and the points of a screen (72 and 96 an inch).
PLACEHOLDERS_MM = (1.0, 25.4 / 72, 25.4 / 96)
#: Radiographs of a chest magnify its middle by no less and no more; 1 stands for an unknown factor.
MAGNIFICATIONS = (1.005, 2.0)
#: Distances from source to detector and to patient in mm; a tenth of them is taken for centimetres, a
#: thousandth for metres.
DETECTOR_DISTANCES_MM, PATIENT_DISTANCES_MM = (700.0, 4500.0), (450.0, 4400.0)
#: Spacings that differ by less (relative) are the same.
SAME_SPACING = 1e-3
_IN_PATIENT = ("GEOMETRY", "FIDUCIAL")


@dataclass(frozen=True)
class PixelSize:
    """Size of a pixel.

    Attributes:
        spacing_mm: (row, column), or None where the header holds no credible one.
        source: "PixelSpacing", "ImagerPixelSpacing", "header" (a scanner's) or "unknown".
        magnification: size at the place of ``spacing_mm`` over size in the patient's middle: 1 where the
            spacing was calibrated there; None where the header does not say.
        magnification_source: what says so, "" where nothing does.
    """

    spacing_mm: tuple[float, float] | None = None
    source: str = "unknown"
    magnification: float | None = None
    magnification_source: str = ""


def pixel_size(dataset: Dataset, notes: list[str]) -> PixelSize:
    """The first credible size of a pixel, and its magnification; ``notes`` takes what was passed over."""
    found = {
        keyword: _credible_pair(dataset, keyword, notes)
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    }
    calibrated, detector, scanned = found.values()
    kind = text(dataset, "PixelSpacingCalibrationType")
    if calibrated is not None:
        in_patient = _says_in_patient(calibrated, detector, kind, notes)
        if in_patient:
            return PixelSize(calibrated, "PixelSpacing", 1.0, in_patient)
        if detector is None:
            return PixelSize(calibrated, "PixelSpacing", *_magnification(dataset, notes))
    if detector is not None:
        return PixelSize(detector, "ImagerPixelSpacing", *_magnification(dataset, notes))
    if scanned is not None:
        return PixelSize(scanned, "header", *_magnification(dataset, notes))
    return PixelSize()


def pixel_aspect(dataset: Dataset) -> float:
    """Height of a pixel over its width from PixelAspectRatio, 1.0 where absent or malformed."""
    pair = numbers(dataset, "PixelAspectRatio")
    return pair[0] / pair[1] if len(pair) == 2 and min(pair) > 0 else 1.0


def _says_in_patient(
    calibrated: tuple[float, float], detector: tuple[float, float] | None, kind: str, notes: list[str]
) -> str:
    """What says that PixelSpacing holds in the patient; "" where it is that at the detector, or not credible.

    Without ImagerPixelSpacing and a calibration type its place is not said; it is taken for the detector.
    """
    if detector is None:
        return f"PixelSpacingCalibrationType {kind}" if kind in _IN_PATIENT else ""
    ratio = detector[0] / calibrated[0]
    if abs(ratio - 1) < SAME_SPACING:
        return ""  # it says what ImagerPixelSpacing does
    if not MAGNIFICATIONS[0] <= ratio <= MAGNIFICATIONS[1]:
        notes.append(
            f"PixelSpacing of {calibrated[0]:g} mm beside ImagerPixelSpacing of {detector[0]:g} mm is no "
            "calibration of a chest radiograph; it was ignored."
        )
        return ""
    return f"PixelSpacingCalibrationType {kind}" if kind in _IN_PATIENT else "unlike ImagerPixelSpacing"


def _magnification(dataset: Dataset, notes: list[str]) -> tuple[float | None, str]:
    """Magnification of the patient's middle at the detector, and what says so: the header's factor, the
    source's distances to detector and patient, or that to the detector with a customary patient."""
    factor = number(dataset, "EstimatedRadiographicMagnificationFactor")
    if factor is not None:
        if MAGNIFICATIONS[0] <= factor <= MAGNIFICATIONS[1]:
            return factor, "EstimatedRadiographicMagnificationFactor"
        notes.append(
            f"An EstimatedRadiographicMagnificationFactor of {factor:g} is not that of a patient; it was "
            "ignored."
        )
    to_detector = _in_mm(number(dataset, "DistanceSourceToDetector") or 0.0, DETECTOR_DISTANCES_MM)
    to_patient = _in_mm(number(dataset, "DistanceSourceToPatient") or 0.0, PATIENT_DISTANCES_MM)
    if to_detector > 0 and to_patient > 0:
        ratio = to_detector / to_patient
        if MAGNIFICATIONS[0] <= ratio <= MAGNIFICATIONS[1]:
            return ratio, "source distances"
        notes.append(
            f"Source distances of {to_detector:g} to the detector and {to_patient:g} to the patient are not "
            "credible together."
        )
    if DETECTOR_DISTANCES_MM[0] <= to_detector <= DETECTOR_DISTANCES_MM[1]:
        return to_detector / (to_detector - DETECTOR_TO_CENTRE_MM), "DistanceSourceToDetector"
    return None, ""


def _in_mm(distance: float, credible: tuple[float, float]) -> float:
    """``distance`` in mm, which a header may give in centimetres or metres; as it is where neither fits."""
    fitting = (mm for mm in (1, 10, 1000) if credible[0] <= distance * mm <= credible[1])
    return distance * next(fitting, 1)


def _credible_pair(dataset: Dataset, keyword: str, notes: list[str]) -> tuple[float, float] | None:
    """(row, column) mm of ``keyword``, None with a sentence in ``notes`` where it holds no credible size."""
    if not text(dataset, keyword):
        return None
    pair = numbers(dataset, keyword)
    if len(pair) != 2 or min(pair) <= 0:
        notes.append(f"{keyword} is not two positive numbers; it was ignored.")
        return None
    if any(math.isclose(side, mm, rel_tol=2e-4) for mm in PLACEHOLDERS_MM for side in pair[:1]) and (
        math.isclose(*pair, rel_tol=2e-4)
    ):
        notes.append(f"{keyword} of {pair[0]:g} mm stands for an unknown one; it was ignored.")
        return None
    shape = integer(dataset, "Rows", 0), integer(dataset, "Columns", 0)
    doubt = size_doubt(shape, (pair[0], pair[1]), keyword)
    if doubt:
        notes.append(doubt)
        return None
    return pair[0], pair[1]
