"""The side of the heart: a mirrored radiograph reads as the opposite, exactly, and real ones read right."""

from pathlib import Path

import numpy as np
import pytest

from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.pipelines.loading import EMBEDDED
from xray2ctpa_core.preprocessing.heart_side import WEIGHTS, asymmetry, mirrored_probability
from xray2ctpa_core.volume import Radiograph


def chest(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Masks and image: two lungs, the heart on the image's right (the patient's left) takes a part of one."""
    v, u = np.mgrid[0:size, 0:size] / size
    right, left = (((u - x) / 0.15) ** 2 + ((v - 0.5) / 0.35) ** 2 <= 1 for x in (0.3, 0.7))
    heart = ((u - 0.57) / 0.17) ** 2 + ((v - 0.65) / 0.16) ** 2 <= 1
    image = 0.8 - 0.6 * (right | left) + 0.6 * (heart & (right | left))
    return np.stack([right & ~heart, left & ~heart]), image.astype(np.float32)


def test_a_heart_on_the_patients_left_is_upright_and_on_the_other_side_mirrored() -> None:
    masks, image = chest()

    upright = mirrored_probability(masks, image)
    mirrored = mirrored_probability(masks[::-1, :, ::-1], image[:, ::-1])

    assert upright < 0.2
    assert mirrored == pytest.approx(1 - upright)


def test_mirroring_changes_the_sign_of_every_feature_and_a_scale_of_greys_none() -> None:
    masks, image = chest()

    features = asymmetry(masks, image)

    assert features.shape == WEIGHTS.shape == (64,)
    assert asymmetry(masks[::-1, :, ::-1], image[:, ::-1]) == pytest.approx(-features)
    assert asymmetry(masks, 4095 * image + 7) == pytest.approx(features, abs=1e-5)


def test_without_lungs_nothing_is_said() -> None:
    assert mirrored_probability(np.zeros((2, 8, 8), bool), np.zeros((8, 8))) == 0.5


def test_a_uniform_image_says_nothing_but_its_lungs() -> None:
    assert np.isfinite(mirrored_probability(chest()[0], np.zeros((64, 64))))


def test_real_radiographs_of_others_are_warned_about_when_they_are_mirrored(real_data: Path) -> None:
    """24 of the 190 published radiographs on which nothing was set."""
    folder = real_data.parent / "data" / "cxr" / "covid"
    if not folder.is_dir():
        pytest.skip("no published radiographs beside the real ones")
    locator = LungLocator.from_pretrained(EMBEDDED / "virtual-thorax" / "lung_locator").float().eval()
    warned = {1: 0, -1: 0}
    for path in sorted(folder.iterdir())[::8]:
        pixels = read_radiograph(path).pixels
        for step in warned:
            gate = frame_radiograph(locator, Radiograph(np.ascontiguousarray(pixels[:, ::step]))).gate
            warned[step] += any("mirrored" in words and "dextrocardia" in words for words in gate.warnings)

    assert warned[1] <= 3
    assert warned[-1] >= 12
