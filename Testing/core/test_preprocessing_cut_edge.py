"""Cut-off lungs: features of an edge that a person can count, and the sample patient cut at each edge."""

import numpy as np
import pytest

from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.pipelines.loading import EMBEDDED
from xray2ctpa_core.preprocessing.cut_edge import EDGES, WEIGHTS, cut_probabilities, edge_features
from xray2ctpa_core.volume import Radiograph

WHOLE = (0.0, 0.0, 128.0, 128.0)


def two_lungs(top: int = 20) -> np.ndarray:
    """Rectangles in columns 20 to 49 and 70 to 99, down to row 99."""
    lungs = np.zeros((128, 128), bool)
    lungs[top:100, 20:50] = lungs[top:100, 70:100] = True
    return lungs


def test_features_are_distances_lines_and_how_the_lungs_end() -> None:
    found = edge_features(two_lungs(), WHOLE, EDGES.index("top"))

    assert found[:4] == pytest.approx([0.15, 0.25, 0.5, 0.0])  # 20 rows of 128, of a box 80 high
    assert found[4:14] == pytest.approx(np.zeros(10))
    assert found[14:] == pytest.approx([60 / 80] * 5 + [60 / 128] * 4)
    at_edge = edge_features(two_lungs(top=0), WHOLE, EDGES.index("top"))
    assert at_edge[:4] == pytest.approx([0, 0, 0, 1])
    assert at_edge[4:14] == pytest.approx(np.full(10, 60 / 80))


def test_every_model_has_a_weight_for_each_feature_and_a_constant() -> None:
    count = len(edge_features(two_lungs(), WHOLE, 0))

    assert {kind: len(row) for kind, row in WEIGHTS.items()} == dict.fromkeys(
        ("top", "side", "bottom"), count + 1
    )


def test_mirroring_exchanges_the_sides_alone() -> None:
    lungs = two_lungs(top=3)
    lungs[:, :30] = False

    top, left, bottom, right = cut_probabilities(lungs, WHOLE)

    assert cut_probabilities(lungs[:, ::-1], WHOLE) == pytest.approx((top, right, bottom, left))


def test_lungs_at_an_edge_are_more_likely_cut_and_where_the_radiograph_may_go_on_they_are_not() -> None:
    far, near = (cut_probabilities(two_lungs(top), WHOLE)[0] for top in (20, 0))

    assert far < 0.5 < near
    assert cut_probabilities(two_lungs(0), (-np.inf, 0.0, 128.0, 128.0))[0] == 0.0
    assert cut_probabilities(np.zeros((128, 128), bool), WHOLE) == (0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def locator() -> LungLocator:
    return LungLocator.from_pretrained(EMBEDDED / "virtual-thorax" / "lung_locator").float().eval()


@pytest.mark.parametrize("number", range(4), ids=EDGES)
def test_the_sample_patient_cut_a_tenth_into_the_lungs_is_warned_of_at_that_edge(
    number: int, locator: LungLocator
) -> None:
    pixels = read_radiograph(SAMPLE_CXR).pixels
    whole = frame_radiograph(locator, Radiograph(pixels))
    assert whole.lungs.box is not None
    box = np.array(whole.lungs.box)
    inside = (box[2:] - box[:2])[number % 2] * 0.1
    part = [0, 0, *pixels.shape]
    part[number] = round(float(box[number] + (inside if number < 2 else -inside)))

    cut = frame_radiograph(
        locator, Radiograph(np.ascontiguousarray(pixels[part[0] : part[2], part[1] : part[3]]))
    )

    assert not any("cut off" in warning for warning in whole.gate.warnings)
    edges = [edge for edge in EDGES if any(f"radiograph's {edge}" in w for w in cut.gate.warnings)]
    assert edges == [EDGES[number]]
