import pytest
import torch

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.perceptual import (
    LPIPSDistance,
    PerceptualDistance,
    load_alexnet_trunk,
    lpips_if_available,
)

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    return PerceptualDistance()


@pytest.fixture(scope="module")
def disc() -> torch.Tensor:
    """A bright disc on black with a fine grid inside, (1, 1, 64, 64) in [-1, 1]."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    inside = ((y - 32) ** 2 + (x - 32) ** 2) < 20**2
    return torch.where(inside, 0.3 + 0.5 * torch.cos(x * 1.5), -1.0)[None, None]


def test_equal_slices_have_distance_zero(distance, disc):
    assert distance(disc, disc).tolist() == [0.0]


def test_the_distance_is_symmetric_and_one_number_a_slice(distance, disc):
    a = torch.cat([disc, disc.flip(3)])
    b = torch.cat([disc.roll(9, 2), disc])
    assert distance(a, b).shape == (2,)
    torch.testing.assert_close(distance(a, b), distance(b, a))


def test_a_slice_in_a_batch_gets_the_number_it_gets_alone(distance, disc):
    other = disc.roll(5, 3)
    torch.testing.assert_close(
        distance(torch.cat([disc, other]), torch.cat([other, other]))[:1], distance(disc, other)
    )


def test_blur_is_further_away_than_faint_noise_of_the_same_squared_error(distance, disc):
    blurred = torch.nn.functional.avg_pool2d(disc, 5, 1, 2)
    error = (blurred - disc).square().mean().sqrt()
    noise = torch.randn(disc.shape, generator=torch.Generator().manual_seed(0))
    brighter = disc + error
    assert (brighter - disc).square().mean().sqrt() == pytest.approx(float(error), rel=1e-4)
    assert distance(blurred, disc) > distance(brighter, disc)
    assert distance(disc + 0.05 * noise, disc) < distance(disc + 0.5 * noise, disc)


def test_gradients_reach_the_image_and_no_weight_is_trained(distance, disc):
    image = disc.roll(3, 2).clone().requires_grad_(True)
    distance(image, disc).mean().backward()
    assert image.grad is not None
    assert float(image.grad.abs().max()) > 0
    assert not any(p.requires_grad for p in distance.parameters())
    assert all(p.grad is None for p in distance.parameters())


def test_descending_the_gradient_brings_the_image_closer(distance, disc):
    image = disc.roll(3, 2).clone().requires_grad_(True)
    before = distance(image, disc).mean()
    (gradient,) = torch.autograd.grad(before, image)
    with torch.no_grad():
        after = distance(image - 0.01 * gradient / gradient.norm(), disc).mean()
    assert after < before


def test_train_mode_does_not_change_the_number(distance, disc):
    before = distance(disc, disc.flip(2))
    distance.train()
    assert not distance.training
    assert all(not module.training for module in distance.modules())
    torch.testing.assert_close(distance(disc, disc.flip(2)), before)


def test_the_weights_are_the_trained_ones(distance):
    first = distance.stem[0].weight
    assert first.shape == (32, 3, 3, 3)
    assert distance.stem[1].running_var.std() > 0.1  # 1 everywhere in an untrained network


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 64, 64), (1, 1, 16, 64)])
def test_slices_of_a_wrong_shape_are_refused(distance, shape):
    with pytest.raises(InputError, match="32 x 32"):
        distance(torch.zeros(shape), torch.zeros(shape))


def test_lpips_without_its_weights_is_an_error_that_says_so(tmp_path):
    with pytest.raises(InputError, match="AlexNet's ImageNet weights") as caught:
        LPIPSDistance(tmp_path / "absent.pth")
    assert "EfficientNet-Lite0" in caught.value.hint


def test_lpips_with_other_weights_is_refused(tmp_path):
    path = tmp_path / "alexnet-owt-7be5be79.pth"
    path.write_bytes(b"random weights under the right name")
    with pytest.raises(InputError, match="SHA-256"):
        LPIPSDistance(path)


def test_lpips_is_none_where_its_weights_are_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert lpips_if_available() is None


def test_other_weights_in_a_folder_that_was_named_are_an_error_and_not_none(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert lpips_if_available(tmp_path) is None
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"random weights under the right name")
    with pytest.raises(InputError, match="SHA-256"):
        lpips_if_available(tmp_path)


def test_alexnet_weights_reach_every_convolution_of_lpips():
    lpips = pytest.importorskip("lpips")
    torchvision = pytest.importorskip("torchvision")
    state = torchvision.models.alexnet(weights=None).state_dict()
    trunk = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).net
    load_alexnet_trunk(trunk, state)
    torch.testing.assert_close(trunk.slice1[0].weight, state["features.0.weight"])
    torch.testing.assert_close(dict(trunk.slice5.named_children())["10"].bias, state["features.10.bias"])
