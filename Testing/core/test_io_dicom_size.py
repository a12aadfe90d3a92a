"""Size of a radiograph by its DICOM header: which spacing is believed, and where it holds."""

from pathlib import Path

import io_radiographs as radiographs
import pytest

from xray2ctpa_core.io.radiograph import read_radiograph

IMAGER = {"ImagerPixelSpacing": [2.2, 2.2]}


@pytest.mark.parametrize(
    ("elements", "spacing", "magnification", "said"),
    [
        (IMAGER, 2.2, None, ""),
        ({**IMAGER, "EstimatedRadiographicMagnificationFactor": "1.3"}, 2.2, 1.3, "EstimatedRadiographicMag"),
        (
            {**IMAGER, "DistanceSourceToDetector": 1000, "DistanceSourceToPatient": 800},
            2.2,
            1.25,
            "distances",
        ),
        ({**IMAGER, "DistanceSourceToDetector": 180, "DistanceSourceToPatient": 150}, 2.2, 1.2, "distances"),
        ({**IMAGER, "DistanceSourceToDetector": 1.8, "DistanceSourceToPatient": 1.5}, 2.2, 1.2, "distances"),
        ({**IMAGER, "DistanceSourceToDetector": 1800, "DistanceSourceToPatient": 150}, 2.2, 1.2, "distances"),
        ({**IMAGER, "DistanceSourceToDetector": 1000}, 2.2, 1000 / 850, "DistanceSourceToDetector"),
        ({**IMAGER, "DistanceSourceToDetector": 100}, 2.2, 1000 / 850, "DistanceSourceToDetector"),
        ({**IMAGER, "DistanceSourceToDetector": 1.0}, 2.2, 1000 / 850, "DistanceSourceToDetector"),
        ({**IMAGER, "DistanceSourceToDetector": 20}, 2.2, None, ""),
        ({**IMAGER, "DistanceSourceToDetector": 0, "DistanceSourceToPatient": 0}, 2.2, None, ""),
        ({**IMAGER, "PixelSpacing": [2.2, 2.2]}, 2.2, None, ""),
        ({**IMAGER, "PixelSpacing": [2.0, 2.0]}, 2.0, 1.0, "unlike ImagerPixelSpacing"),
        ({"PixelSpacing": [2.0, 2.0]}, 2.0, None, ""),
        (
            {"PixelSpacing": [2.0, 2.0], "EstimatedRadiographicMagnificationFactor": "1.2"},
            2.0,
            1.2,
            "Estimated",
        ),
        ({"PixelSpacing": [2.0, 2.0], "PixelSpacingCalibrationType": "FIDUCIAL"}, 2.0, 1.0, "FIDUCIAL"),
        ({"NominalScannedPixelSpacing": [2.5, 2.5]}, 2.5, None, ""),
    ],
)
def test_a_spacing_comes_with_its_magnification(
    elements: dict, spacing: float, magnification: float | None, said: str, tmp_path: Path
) -> None:
    radiograph = read_radiograph(radiographs.write_dicom(tmp_path / "f.dcm", **elements))

    assert radiograph.spacing_mm == (spacing, spacing)
    assert radiograph.magnification == (None if magnification is None else pytest.approx(magnification))
    assert said in radiograph.magnification_source
    assert radiograph.notes == ()


@pytest.mark.parametrize(
    ("elements", "spacing", "magnification", "noted"),
    [
        ({**IMAGER, "PixelSpacing": [1.0, 1.0]}, 2.2, None, "PixelSpacing of 1 mm stands for an unknown one"),
        ({"PixelSpacing": [1.0, 1.0]}, None, None, "stands for an unknown one"),
        ({"PixelSpacing": [0.352778, 0.352778]}, None, None, "stands for an unknown one"),
        ({**IMAGER, "PixelSpacing": [0.5, 0.5]}, 2.2, None, "no calibration of a chest radiograph"),
        ({**IMAGER, "PixelSpacing": [0.001, 0.001]}, 2.2, None, "0 mm long"),
        ({**IMAGER, "EstimatedRadiographicMagnificationFactor": "1.0"}, 2.2, None, "not that of a patient"),
        ({**IMAGER, "EstimatedRadiographicMagnificationFactor": "12"}, 2.2, None, "not that of a patient"),
        (
            {**IMAGER, "DistanceSourceToDetector": 1800, "DistanceSourceToPatient": 1800},
            2.2,
            1800 / 1650,
            "not credible together",
        ),
    ],
)
def test_placeholders_are_passed_over_with_a_note(
    elements: dict, spacing: float | None, magnification: float | None, noted: str, tmp_path: Path
) -> None:
    radiograph = read_radiograph(radiographs.write_dicom(tmp_path / "f.dcm", **elements))

    assert radiograph.spacing_mm == (None if spacing is None else (spacing, spacing))
    assert radiograph.magnification == (None if magnification is None else pytest.approx(magnification))
    assert noted in " ".join(radiograph.notes)
