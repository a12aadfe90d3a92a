"""`xray2ctpa check`: the verdict, then how the greys and the size were found, in one line each."""

import json
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import pytest
from cli_runs import xray2ctpa
from PIL import Image

from xray2ctpa_core.generation.samples import SAMPLE_CXR


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("check")


def eight_bits() -> np.ndarray:
    """(H, W) uint16 0..255: the radiograph that ships with the package."""
    pixels = np.asarray(Image.open(SAMPLE_CXR))
    return (pixels.astype(np.float32) * (255 / pixels.max())).astype(np.uint16)


def test_a_picture_of_unknown_size_says_that_it_takes_the_mean(place: Path) -> None:
    Image.fromarray(eight_bits().astype(np.uint8)).save(place / "chest.png")

    run = xray2ctpa("check", "chest.png", cwd=place)

    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    assert lines[0].startswith("chest.png: accepted")
    assert lines[1] == "Greys: 8-bit PNG"
    assert lines[2].startswith("Size: Its size is not known; the frame was taken to be ")
    assert lines[2].endswith("the mean of the cohort.")


@pytest.mark.parametrize(
    ("elements", "size"),
    [
        ({}, "at the detector, with the customary magnification: the frame is"),
        ({"EstimatedRadiographicMagnificationFactor": "1.2"}, "magnification 1.2 by EstimatedRadiographic"),
        ({"PixelSpacing": [0.13, 0.13]}, "PixelSpacing of 0.13 mm calibrated in the patient"),
    ],
)
def test_a_dicom_says_how_greys_and_size_were_found(elements: dict, size: str, place: Path) -> None:
    stored = eight_bits() * 16
    spacing = 360 / max(stored.shape)
    elements = {k: [spacing / 1.1] * 2 if k == "PixelSpacing" else v for k, v in elements.items()}
    path = radiographs.write_dicom(
        place / "f.dcm",
        4095 - stored,
        ImagerPixelSpacing=[round(spacing, 4)] * 2,
        RescaleSlope="-1",
        RescaleIntercept="4095",
        WindowCenter="2048",
        WindowWidth="4096",
        **{k: [round(v[0], 4)] * 2 if isinstance(v, list) else v for k, v in elements.items()},
    )

    lines = xray2ctpa("check", path, cwd=place).stdout.splitlines()

    assert lines[1] == "Greys: 12-bit MONOCHROME2, rescaled by -1 and 4095, window 2048/4096"
    assert size.replace("0.13", f"{spacing / 1.1:.4g}") in lines[2]
    verdict = json.loads(xray2ctpa("check", path, "--json", cwd=place).stdout)
    assert verdict["size"] == lines[2].removeprefix("Size: ")
    assert verdict["input"]["greys"] == lines[1].removeprefix("Greys: ")
