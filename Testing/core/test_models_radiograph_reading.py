"""Reading radiographs with the embedded locator: simulated and real ones pass, everything else is refused."""

from pathlib import Path

import numpy as np
import pytest

from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.models.framing.lung_location import LungLocation
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import RadiographReading, frame_radiograph
from xray2ctpa_core.pipelines.loading import EMBEDDED
from xray2ctpa_core.volume import Radiograph

LOCATOR = EMBEDDED / "virtual-thorax" / "lung_locator"


@pytest.fixture(scope="module")
def locator() -> LungLocator:
    if not LOCATOR.is_dir():
        pytest.skip("the embedded bundle has no lung locator yet")
    return LungLocator.from_pretrained(LOCATOR).float().eval()


@pytest.fixture(scope="module")
def real_radiographs(real_data: Path) -> list[Radiograph]:
    """Every real radiograph of the data folder: NIH, DICOM, the pair's screenshot."""
    files = sorted((real_data / "cxr").rglob("*.*")) + sorted((real_data / "pairs").rglob("cxr.png"))
    return [read_radiograph(path) for path in files]


@pytest.fixture(scope="module")
def readings(locator: LungLocator, real_radiographs: list[Radiograph]) -> list[RadiographReading]:
    return [frame_radiograph(locator, radiograph) for radiograph in real_radiographs]


def test_at_least_95_percent_of_real_radiographs_are_accepted(readings):
    accepted = [reading.gate.accepted for reading in readings]
    assert len(accepted) >= 180
    assert np.mean(accepted) >= 0.95


def test_real_radiographs_are_framed_as_chests_lie(readings):
    for reading in (r for r in readings if r.gate.accepted):
        height, width = reading.radiograph.pixels.shape
        centre = np.array([reading.frame.top, reading.frame.left]) + reading.frame.side / 2
        assert (np.abs(centre / (height, width) - 0.5) < 0.3).all(), reading.radiograph.name
        assert 0.35 < reading.frame.side / max(height, width) < 1.4, reading.radiograph.name


def test_side_markers_of_real_radiographs_are_read_on_their_side(readings):
    """By eye one of these radiographs is mirrored: an L and the heart lie on the image's left."""
    markers = {r.radiograph.name: r.marker for r in readings if r.marker is not None}

    others = [name for name, marker in markers.items() if not marker.as_expected]

    assert len(markers) >= 60
    assert others == ["00002645_002.jpg"]
    assert 5 <= sum(marker.mirrored for marker in markers.values()) <= 30  # laid back to front
    for reading in readings:
        warned = any("side marker reads" in warning for warning in reading.gate.warnings)
        assert not warned or reading.marker is not None


def test_real_pictures_that_are_no_chest_radiograph_are_refused(locator, real_data):
    files = sorted((real_data / "not_a_cxr").iterdir())
    assert len(files) >= 2
    for path in files:
        assert not frame_radiograph(locator, read_radiograph(path)).gate.accepted, path.name


def test_turned_real_radiographs_are_refused_and_most_are_told_how_they_are_turned(locator, real_radiographs):
    told = []
    for radiograph in real_radiographs[::12]:
        turned = frame_radiograph(locator, Radiograph(np.ascontiguousarray(np.rot90(radiograph.pixels))))
        assert not turned.gate.accepted
        # rot90 turns against the clock: the radiograph then lies 270 degrees clockwise of upright.
        told.append(any("turned by 270 degrees clockwise" in w for w in turned.gate.warnings))
    assert np.mean(told) > 0.7


def test_inverted_real_radiographs_are_turned_back_with_a_note(locator, real_radiographs):
    corrected = []
    for radiograph in real_radiographs[::12]:
        reading = frame_radiograph(locator, Radiograph(1 - radiograph.pixels))
        corrected.append(reading.gate.accepted and "inverted" in reading.gate.warnings[0])
        if corrected[-1]:
            np.testing.assert_allclose(reading.radiograph.pixels, radiograph.pixels, atol=1e-6)
    assert np.mean(corrected) > 0.7


def test_real_radiographs_without_their_upper_half_are_refused(locator, real_radiographs):
    lower = [Radiograph(r.pixels[len(r.pixels) // 2 :].copy()) for r in real_radiographs[::4]]
    refused = [not frame_radiograph(locator, half).gate.accepted for half in lower]
    assert np.mean(refused) > 0.9


def test_most_middles_of_real_radiographs_are_refused_and_the_rest_is_doubted(locator, real_radiographs):
    """60 % of height and width: lung is missing on every side."""
    reports = []
    for radiograph in real_radiographs[::3]:
        rows, columns = (round(0.2 * n) for n in radiograph.pixels.shape)
        middle = np.ascontiguousarray(radiograph.pixels[rows:-rows, columns:-columns])
        reports.append(frame_radiograph(locator, Radiograph(middle)).gate)
    assert np.mean([report.accepted for report in reports]) < 0.25
    assert np.mean([report.accepted and not report.warnings for report in reports]) < 0.06


def test_noise_gradients_and_checks_are_refused(locator):
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(0, 1, 200, dtype=np.float32), (200, 200))
    checks = (np.indices((240, 240)) // 30).sum(0) % 2
    for pixels in (rng.random((256, 256)), ramp, ramp.T.copy(), checks):
        assert not frame_radiograph(locator, Radiograph(pixels.astype(np.float32))).gate.accepted


def test_a_refused_radiograph_still_has_a_frame(locator):
    noise = np.random.default_rng(1).random((300, 200)).astype(np.float32)
    frame = frame_radiograph(locator, Radiograph(noise)).frame
    assert frame.side > 0


def test_reading_leaves_the_given_pixels_alone(locator):
    pixels = np.random.default_rng(2).random((2000, 2000)).astype(np.float32)
    before = pixels.copy()
    reading = frame_radiograph(locator, Radiograph(pixels))
    np.testing.assert_array_equal(pixels, before)
    assert isinstance(reading.lungs, LungLocation)


def test_the_shipped_locator_is_under_a_megabyte(locator):
    assert sum(f.stat().st_size for f in LOCATOR.iterdir()) < 1_000_000
