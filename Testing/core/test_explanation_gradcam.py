"""Grad-CAM: the map lies where the evidence is, on the grid asked for, and the classifier stays as it was."""

import gc

import numpy as np
import pytest
import torch
from torch import nn

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.explanation.gradcam import gradcam_map, gradcam_peak, label_map


class MeanOfFirstChannel(nn.Module):
    """Logit = mean of channel 0 after a layer that keeps positive values: its Grad-CAM is known exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(2, 2, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(2)[:, :, None, None, None])

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.relu(self.features(latents))[:, :1].mean(dim=(2, 3, 4))


def latents_with_a_spot(value: float = 4.0) -> torch.Tensor:
    latents = torch.zeros(1, 2, 8, 4, 4)
    latents[0, 0, 6, 1, 2] = value
    latents[0, 1, 1, 1, 1] = 100.0  # a channel that the logit does not read
    return latents


def test_the_map_peaks_where_the_logit_gets_its_evidence() -> None:
    cam = gradcam_map(MeanOfFirstChannel(), "relu", latents_with_a_spot(), (8, 8, 8))
    assert cam.shape == (8, 8, 8)
    assert cam.dtype == np.float32
    assert cam.max() == 1.0
    assert cam.min() == 0.0
    k, j, i = (axis.mean() for axis in np.nonzero(cam == 1.0))
    assert (k, j, i) == (6.0, 2.5, 4.5)  # latent voxel (6, 1, 2) covers rows 2-3 and columns 4-5
    assert cam[1].max() == 0.0


@pytest.mark.parametrize(("value", "strongest"), [(1.0, 0.25), (4.0, 1.0), (8.0, 1.0)])
def test_weak_evidence_stays_weak_where_it_is_known_what_is_strong(value: float, strongest: float) -> None:
    """Heat is the spot's value times the mean gradient: 4 makes four times the heat of 1."""
    full = gradcam_peak(MeanOfFirstChannel(), "relu", latents_with_a_spot(4.0), (8, 8, 8))
    spot = latents_with_a_spot(value)
    cam = gradcam_map(MeanOfFirstChannel(), "relu", spot, (8, 8, 8), full)
    assert cam.max() == pytest.approx(strongest)
    own = gradcam_map(MeanOfFirstChannel(), "relu", spot, (8, 8, 8))
    assert np.allclose(cam, strongest * own)
    nothing = latents_with_a_spot(-4.0)
    assert not gradcam_map(MeanOfFirstChannel(), "relu", nothing, (8, 8, 8), full).any()


def test_no_evidence_for_pe_gives_a_map_of_zeros() -> None:
    cam = gradcam_map(MeanOfFirstChannel(), "relu", latents_with_a_spot(-4.0), (8, 8, 8))
    assert not cam.any()


def test_two_calls_give_the_same_map_and_leave_the_classifier_as_it_was() -> None:
    classifier = MeanOfFirstChannel().train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with torch.no_grad():
        first = gradcam_map(classifier, "relu", latents_with_a_spot(), (8, 8, 8))
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        second = gradcam_map(classifier, "relu", latents_with_a_spot(), (8, 8, 8))
    assert np.array_equal(first, second)
    assert classifier.training
    assert classifier.relu.inplace
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in classifier.modules())
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_nothing_of_a_map_stays_in_memory() -> None:
    for _ in range(2):
        gradcam_map(MeanOfFirstChannel(), "relu", latents_with_a_spot(), (8, 8, 8))
        gc.collect()
        assert not [found for found in gc.get_objects() if type(found) is MeanOfFirstChannel]


def test_a_classifier_in_half_precision_gives_the_map_of_its_weights() -> None:
    halved = MeanOfFirstChannel().to(torch.bfloat16)
    cam = gradcam_map(halved, "relu", latents_with_a_spot(), (8, 8, 8))
    assert np.array_equal(cam, gradcam_map(MeanOfFirstChannel(), "relu", latents_with_a_spot(), (8, 8, 8)))
    assert halved.features.weight.dtype == torch.bfloat16


def test_a_monai_densenet_gives_a_map_on_the_output_grid() -> None:
    from monai.networks.nets import DenseNet

    torch.manual_seed(0)
    net = DenseNet(3, in_channels=4, out_channels=1, init_features=8, growth_rate=4, block_config=(2, 2))
    net.class_layers.out.weight.data.abs_()  # every feature speaks for PE
    cam = gradcam_map(net, "class_layers.relu", torch.randn(1, 4, 16, 32, 32), (16, 64, 64))
    assert cam.shape == (16, 64, 64)
    assert cam.min() >= 0.0
    assert cam.max() == 1.0


def test_an_unknown_layer_and_a_batch_are_refused() -> None:
    with pytest.raises(InputError, match="got 'fc'"):
        gradcam_map(MeanOfFirstChannel(), "fc", latents_with_a_spot(), (8, 8, 8))
    with pytest.raises(InputError, match=r"\(2, 2, 8, 4, 4\)"):
        gradcam_map(MeanOfFirstChannel(), "relu", torch.zeros(2, 2, 8, 4, 4), (8, 8, 8))


def test_labels_start_at_their_thresholds() -> None:
    cam = np.array([0.0, 0.2499, 0.25, 0.5, 0.74, 0.75, 1.0], dtype=np.float32)
    assert label_map(cam).tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert label_map(cam).dtype == np.uint8
