import warnings

import numpy as np
import pytest
import torch

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.features import (
    I3D_FILE,
    INCEPTION_FILE,
    SubstituteClip,
    SubstituteSlices,
    TorchScriptFeatures,
    clip_network,
    slice_network,
)
from xray2ctpa_core.metrics.frechet import frechet_distance
from xray2ctpa_core.metrics.perceptual import PerceptualDistance

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")


class ClipMean(torch.nn.Module):
    """What the published I3D is called like: mean of each colour, and frames and pixels along a side."""

    def forward(
        self, clip: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> torch.Tensor:
        assert not rescale
        assert not resize
        assert return_features
        size = torch.tensor([[float(clip.shape[2]), float(clip.shape[4])]])
        return torch.cat([clip.mean(dim=(2, 3, 4)), size], dim=1)


class SliceMean(torch.nn.Module):
    """What the published Inception is called like: mean of 8-bit colours."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert return_features
        assert images.dtype == torch.uint8
        return images.float().mean(dim=(2, 3))


@pytest.fixture(scope="module")
def network() -> PerceptualDistance:
    return PerceptualDistance()


@pytest.fixture
def weights(tmp_path):
    """A folder with files of the published names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the published networks are TorchScript all the same
        torch.jit.script(ClipMean()).save(str(tmp_path / I3D_FILE))
        torch.jit.script(SliceMean()).save(str(tmp_path / INCEPTION_FILE))
    return tmp_path


def test_the_i3d_reads_the_volume_as_one_clip_of_224_pixels(weights, network):
    i3d = clip_network(weights, network)
    features = i3d(torch.full((12, 40, 32), 0.5))
    torch.testing.assert_close(features, torch.tensor([[0.5, 0.5, 0.5, 12, 224]]))
    assert i3d.title.startswith(f"FVD (I3D: {I3D_FILE}, SHA-256 ")


def test_the_inception_reads_every_fourth_slice_in_8_bits(weights, network):
    inception = slice_network(weights, network)
    features = inception(torch.linspace(-1, 1, 12)[:, None, None].expand(12, 32, 32))
    assert features[:, 0].tolist() == [46.0, 139.0, 232.0]  # slices 2, 6, 10: 255 * k / 11, rounded
    assert inception.title.startswith("FID (Inception-v3: ")


def test_without_the_files_the_substitutes_say_what_they_are(tmp_path, network):
    for folder in (None, tmp_path):
        assert "EfficientNet-Lite0" in clip_network(folder, network).title
        assert "no FVD" in clip_network(folder, network).title
        assert "no FID" in slice_network(folder, network).title


def test_the_substitutes_tell_volumes_apart_by_look_and_by_change_along_slices(network):
    rng = torch.Generator().manual_seed(0)
    still = torch.rand(1, 32, 32, generator=rng).expand(8, 32, 32) * 2 - 1
    moving = torch.stack([still[0].roll(3 * k, 0) for k in range(8)])
    clip, slices = SubstituteClip(network), SubstituteSlices(network)
    assert slices(still).shape == (2, 112)
    assert clip(still).shape == (1, 224)
    assert float(clip(still)[0, 112:].abs().max()) < 1e-4
    assert float(clip(moving)[0, 112:].mean()) > 0.01


def test_noise_moves_volumes_away_in_the_substitutes_features(network):
    rng = torch.Generator().manual_seed(0)
    volumes = torch.rand(6, 8, 32, 32, generator=rng).cumsum(dim=3) / 16 - 1
    slices = SubstituteSlices(network)

    def features(noise: float) -> np.ndarray:
        noisy = volumes + noise * torch.randn(volumes.shape, generator=torch.Generator().manual_seed(1))
        return torch.cat([slices(v) for v in noisy.clamp(-1, 1)]).numpy()

    near, far = (frechet_distance(features(0), features(noise)) for noise in (0.02, 0.3))
    assert near < far


def test_files_of_another_name_or_kind_are_refused(tmp_path, network):
    with pytest.raises(InputError, match="Expected i3d_torchscript"):
        TorchScriptFeatures(tmp_path / "other.pt")
    with pytest.raises(InputError, match="does not exist"):
        TorchScriptFeatures(tmp_path / I3D_FILE)
    (tmp_path / I3D_FILE).write_bytes(b"no archive")
    with pytest.raises(InputError, match="TorchScript"):
        clip_network(tmp_path, network)
    with pytest.raises(InputError, match="folder of weights"):
        slice_network(tmp_path / "absent", network)


def test_volumes_too_small_are_refused(weights, network):
    with pytest.raises(InputError, match="4 x 32 x 32"):
        SubstituteSlices(network)(torch.zeros(8, 16, 32))
    with pytest.raises(InputError, match="at least 9 slices"):
        clip_network(weights, network)(torch.zeros(8, 32, 32))
