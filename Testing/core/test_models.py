"""Shapes, geometry of the ray lift, and what conditions the denoiser."""

import numpy as np
import pytest
import torch

from xray2ctpa_core.explanation.gradcam import gradcam_map
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.codecs.slices import (
    from_autoencoder,
    slices_to_volumes,
    to_autoencoder,
    volumes_to_slices,
)
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.rays import RayLift
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.protocols import Conditioning


@pytest.mark.parametrize("channels", [1, 3, 4, 16])
def test_slices_come_back_as_they_went_in(channels: int) -> None:
    volumes = torch.randn(2, 1, 3, 8, 8)
    folded = to_autoencoder(volumes_to_slices(volumes), channels)
    assert folded.shape[:2] == (6, channels)
    assert torch.allclose(slices_to_volumes(from_autoencoder(folded), 2), volumes)


def test_an_autoencoder_of_five_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="square number"):
        to_autoencoder(torch.zeros(1, 1, 8, 8), 5)


def test_a_ray_lands_where_the_magnification_of_its_depth_says() -> None:
    """A point of the radiograph at 60 % of the half side right of the middle, seen at three depths."""
    lift = RayLift(depth_planes=3, frame_side_mm=300.0)
    features = torch.zeros(1, 1, 3, 200, 200)
    features[..., 99:101, 159:161] = 1.0
    lifted = lift(features)
    assert lifted.shape == (1, 1, 200, 3, 200)
    for plane, y in enumerate((-88.0, 0.0, 88.0)):
        columns = lifted[0, 0, :, plane].sum(0)
        found = float((columns * (torch.arange(200) * 2 + 1 - 200) / 200).sum() / columns.sum())
        assert found == pytest.approx(0.6 * (1650.0 - y) / 1650.0, abs=0.004)


def test_the_top_of_the_radiograph_is_lifted_to_the_highest_slices_and_its_right_edge_to_the_left_side() -> (
    None
):
    features = torch.zeros(1, 1, 1, 16, 16)
    features[..., :4, 12:] = 1.0
    lifted = RayLift(1)(features)[0, 0, :, 0]
    assert lifted[-3:, -3:].min() > 0.9
    assert lifted[:8].max() == 0
    assert lifted[:, :8].max() == 0


def test_the_encoder_gives_an_embedding_a_logit_and_features_on_the_latent_grid() -> None:
    encoder = XrayEncoder(
        channels=(8, 8, 16, 16), latent_grid=(16, 8, 8), lifted_channels=5, embedding_dim=24
    )
    features = encoder(torch.rand(2, 1, 64, 64))
    assert features.embedding.shape == (2, 24)
    assert features.lifted.shape == (2, 5, 16, 8, 8)
    assert features.pe_logit.shape == (2,)


@pytest.fixture
def denoiser() -> SpatialDenoiser:
    torch.manual_seed(0)
    module = SpatialDenoiser(spatial_channels=3, embedding_dim=16, channels=(8, 16), condition_dim=16)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("changed", ["sample", "timestep", "embedding", "spatial"])
def test_every_input_of_the_denoiser_matters(denoiser: SpatialDenoiser, changed: str) -> None:
    inputs = {
        "sample": torch.randn(1, 4, 8, 8, 8),
        "timestep": torch.tensor([10]),
        "embedding": torch.randn(1, 16),
        "spatial": torch.randn(1, 3, 8, 8, 8),
    }

    def predicted(sample, timestep, embedding, spatial):
        return denoiser(sample, timestep, Conditioning(embedding, spatial))

    before = predicted(**inputs)
    assert before.shape == (1, 4, 8, 8, 8)
    after = predicted(**(inputs | {changed: inputs[changed] + 300}))
    assert (after - before).abs().max() > 1e-3


def test_the_global_denoiser_needs_the_embedding_alone() -> None:
    module = SpatialDenoiser(spatial_channels=0, embedding_dim=16, channels=(8, 16), condition_dim=16)
    output = module(torch.randn(2, 4, 8, 8, 8), torch.tensor([1, 2]), torch.randn(2, 16))
    assert output.shape == (2, 4, 8, 8, 8)


def test_the_spatial_denoiser_says_what_it_lacks(denoiser: SpatialDenoiser) -> None:
    with pytest.raises(ValueError, match="spatial features"):
        denoiser(torch.randn(1, 4, 8, 8, 8), torch.tensor([1]), torch.randn(1, 16))


def test_the_papers_classifier_has_its_parameters() -> None:
    """DenseNet-121 on 4 channels: 11,309,505 parameters in the release, which strides its first convolution
    differently but has the same tensors."""
    classifier = PEClassifier(init_features=64, growth_rate=32, block_config=(6, 12, 24, 16))
    count = sum(parameter.numel() for parameter in classifier.parameters())
    assert count == 11_309_505


@pytest.mark.parametrize("evidence_maps", [9, 0])
def test_the_classifiers_gradcam_layer_exists(evidence_maps: int) -> None:
    classifier = PEClassifier(init_features=8, evidence_maps=evidence_maps)
    assert classifier.gradcam_layer in dict(classifier.named_modules())


def test_evidence_seen_anywhere_moves_the_logit_by_its_weight_alone() -> None:
    torch.manual_seed(0)
    classifier = PEClassifier(2, 8, 4, (1, 1), 0.0, evidence_maps=3).eval()
    assert classifier.maps is not None
    latents = torch.randn(1, 2, 16, 16, 16)
    before, logit = classifier.evidence(latents), classifier(latents)
    assert before.shape == (1, 3)
    with torch.no_grad():
        classifier.maps[1].bias[2] += 1.5
    change = (classifier.evidence(latents) - before)[0]
    assert change[2] > 0.05
    assert (change[:2].abs() < 1e-6).all()
    moved = (classifier.readout.weight[0] * change).sum()
    assert torch.allclose(classifier(latents) - logit, moved, atol=1e-4)


def test_places_count_as_far_as_the_volume_shows_their_kind_at_all() -> None:
    """A place sure of a finding that the patient hardly has is hardly evidence, and not hot in Grad-CAM."""
    torch.manual_seed(0)
    classifier = PEClassifier(2, 8, 4, (1, 1), 0.0, evidence_maps=2).eval()
    latents = torch.randn(1, 2, 16, 16, 16)
    with torch.no_grad():
        classifier.readout.weight.fill_(1.0)
        classifier.shown.bias.copy_(torch.tensor([20.0, -20.0]))
        seen: list[torch.Tensor] = []
        classifier.seen.register_forward_hook(lambda _module, _given, places: seen.append(places))
        evidence = classifier.evidence(latents)
        surest = seen[0].flatten(2).topk(8).values.mean(2)
    assert evidence[0, 0] == pytest.approx(float(surest[0, 0]), abs=1e-5)
    assert evidence[0, 0] > 0.1
    assert evidence[0, 1] < 1e-6
    heat = gradcam_map(classifier, classifier.gradcam_layer, latents, (8, 8, 8))
    first = seen[0][0, 0]
    assert np.corrcoef(heat.ravel(), first.numpy().ravel())[0, 1] > 0.999
