"""The CMKD teacher and student: shapes, padding, order, and what may be saved."""

import math

import pytest
import torch

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.classifiers.embedding_classifier import EmbeddingClassifier
from xray2ctpa_core.models.classifiers.matching_layer import MatchingLayer
from xray2ctpa_core.models.classifiers.slice_transformer import SliceTransformer
from xray2ctpa_core.models.encoders.filling_defects import FEATURES, FillingDefects
from xray2ctpa_core.models.encoders.published import PublishedEncoder
from xray2ctpa_core.pipelines.loading import load_part

SMALL = {"features": 6, "width": 16, "depth": 2, "heads": 2, "embedding_dim": 10}


def teacher(architecture: str) -> SliceTransformer:
    if architecture == "dinov2":
        pytest.importorskip("transformers", reason="DINOv2 needs transformers")
    torch.manual_seed(0)
    return SliceTransformer(architecture=architecture, **SMALL).eval()


@pytest.mark.parametrize("architecture", ["small", "dinov2"])
def test_padding_changes_nothing_and_the_order_of_slices_does(architecture: str) -> None:
    network, slices = teacher(architecture), torch.randn(1, 5, 6)
    padded = torch.cat([slices, torch.zeros(1, 3, 6)], 1)
    with torch.no_grad():
        alone = network(slices)
        torch.testing.assert_close(network(padded), alone, rtol=1e-4, atol=1e-5)
        assert (network(slices.flip(1)) - alone).abs().max() > 1e-4
        assert network.embed(slices).shape == (1, 10)
        assert [block.shape for block in network.block_outputs(slices)] == [(1, 6, 16)] * 2


@pytest.mark.parametrize("architecture", ["small", "dinov2"])
def test_a_teacher_is_saved_and_read_as_a_part(architecture: str, tmp_path) -> None:
    network, slices = teacher(architecture), torch.randn(2, 4, 6)
    network.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(load_part(tmp_path)(slices), network(slices))


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"slice features \(B, S, 6\)"):
        teacher("small")(torch.randn(1, 4, 7))
    with pytest.raises(InputError, match="architecture of small, dinov2"):
        SliceTransformer(architecture="resnet")


def test_a_student_on_a_given_encoder_is_saved_and_read_as_a_part(tmp_path) -> None:
    torch.manual_seed(1)
    encoder = PublishedEncoder("small", {"init_features": 8, "growth_rate": 4, "block_config": (2, 2)}, 12)
    student = EmbeddingClassifier.on(encoder, 10).eval()
    image = torch.rand(2, 1, 32, 32)
    student.save_pretrained(tmp_path)
    with torch.no_grad():
        assert student.embed(image).shape == (2, 10)
        torch.testing.assert_close(student.classify(student.embed(image)), student(image))
        torch.testing.assert_close(load_part(tmp_path)(image), student(image))


def test_the_matching_layer_is_the_teachers_head() -> None:
    network, slices = teacher("small"), torch.randn(2, 4, 6)
    layer = MatchingLayer.of(network.head)
    with torch.no_grad():
        torch.testing.assert_close(layer(network.embed(slices)), network(slices))


def test_a_dark_spot_in_a_bright_vessel_is_a_filling_defect_and_air_is_none() -> None:
    slices = torch.full((3, 1, 32, 32), -0.7)
    slices[1:, :, 8:24, 8:24] = 0.2
    slices[2, :, 15:17, 15:17] = -0.6
    found = FillingDefects()(slices)
    assert found.shape == (3, FEATURES)
    none, vessel, defect = found[:, :3]
    assert none.max() == vessel.max() == 0
    share = 4 / 32**2  # four pixels, darker by 0.8
    assert defect.tolist() == pytest.approx(
        [math.log1p(1000 * share), math.log1p(1000 * share), math.log1p(800 * share)], rel=1e-5
    )
