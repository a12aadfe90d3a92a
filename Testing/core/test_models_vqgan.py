"""The 3D VQGAN and its codebook: sizes, nearest codes, what the gradients reach, how much of it is in use."""

import math
from pathlib import Path

import pytest
import torch

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.codecs.codebook import Codebook, codebook_usage, normalise_vectors
from xray2ctpa_core.models.codecs.vqgan import VQGAN


def tiny(depth_strides: tuple[int, ...] = (2, 1)) -> VQGAN:
    torch.manual_seed(0)
    return VQGAN((4, 8, 8), depth_strides, 1, 3, 16, groups=4).eval()


@pytest.mark.parametrize(
    ("depth_strides", "grid"), [((2, 2), (2, 4, 4)), ((2, 1), (4, 4, 4)), ((1, 1), (8, 4, 4))]
)
def test_latents_are_as_much_smaller_as_the_strides_say_and_decode_to_the_volumes_size(
    depth_strides: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    vqgan = tiny(depth_strides)
    volumes = torch.rand(2, 1, 8, 16, 16) * 2 - 1
    with torch.no_grad():
        latents = vqgan.encode(volumes)
        decoded = vqgan.decode(latents)
        again, quantised = vqgan(volumes)
    assert latents.shape == (2, 3, *grid)
    assert quantised.codes.shape == (2, *grid)
    assert decoded.shape == volumes.shape
    assert torch.allclose(again, decoded, atol=1e-5)


def test_the_defaults_are_xctdiffs_sizes() -> None:
    with torch.device("meta"):
        vqgan = VQGAN()
        assert vqgan.encode(torch.zeros(1, 1, 128, 128, 128)).shape == (1, 8, 32, 32, 32)
        assert sum(p.numel() for p in vqgan.parameters()) == 7_381_681
    assert vqgan.quantize.embedding.weight.shape == (8192, 8)


def test_a_wrong_size_and_wrong_levels_are_named() -> None:
    with pytest.raises(InputError, match=r"multiples of \(2, 4, 4\), got \(7, 16, 16\)"):
        tiny().encode(torch.zeros(1, 1, 7, 16, 16))
    with pytest.raises(ConfigError, match="for each of 2 levels"):
        VQGAN((8, 8, 8), (2,))
    with pytest.raises(ConfigError, match="depth stride of 1 or 2"):
        VQGAN((8, 8, 8), (2, 3))
    with pytest.raises(ConfigError, match="divisible by groups=8"):
        VQGAN((8, 12), (2,))


def test_the_vqgan_survives_saving_and_loading(tmp_path: Path) -> None:
    vqgan = tiny()
    vqgan.save_pretrained(tmp_path)
    again = VQGAN.from_pretrained(tmp_path, use_safetensors=True)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]
    volumes = torch.rand(1, 1, 4, 16, 16)
    with torch.no_grad():
        assert torch.equal(again(volumes)[0], vqgan(volumes)[0])


def test_encoded_vectors_have_mean_0_and_variance_1_and_are_not_quantised() -> None:
    vqgan = tiny()
    with torch.no_grad():
        latents = vqgan.encode(torch.rand(1, 1, 8, 16, 16))
        quantised = vqgan.quantise(latents).values
    assert torch.allclose(latents.mean(1), torch.zeros(1, 4, 4, 4), atol=1e-5)
    variance = latents.var(1, unbiased=False)  # a vector without any has none after N, either
    assert variance.max() < 1.001
    assert float(variance.median()) > 0.99
    assert not torch.allclose(latents, quantised, atol=1e-2)


def test_each_vector_takes_the_code_of_its_direction_whatever_their_sizes() -> None:
    codebook = Codebook(3, 4)
    directions = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1], [-1, 1, 0, 0]])
    with torch.no_grad():
        codebook.embedding.weight.copy_(directions * torch.tensor([[100.0], [1.0], [0.1]]))
    vectors = torch.stack([0.5 * directions[2], 7 * directions[0] + 0.1, directions[1]])
    found = codebook(vectors.T.reshape(1, 4, 3, 1, 1))
    assert found.codes.flatten().tolist() == [2, 0, 1]
    expected = normalise_vectors(directions[[2, 0, 1]]).T.reshape(1, 4, 3, 1, 1)
    assert torch.allclose(found.values, expected, atol=1e-2)


def test_the_nearest_code_is_that_of_the_smallest_distance() -> None:
    torch.manual_seed(0)
    codebook, latents = Codebook(32, 6), normalise_vectors(torch.randn(2, 6, 5, 3, 2))
    table = normalise_vectors(codebook.embedding.weight.detach())
    distances = torch.cdist(latents.movedim(1, -1).reshape(-1, 6), table)
    assert torch.equal(codebook.nearest(latents).flatten(), distances.argmin(1))


def test_gradients_pass_the_codes_unchanged_and_each_loss_moves_its_own_side() -> None:
    torch.manual_seed(0)
    codebook = Codebook(16, 4)
    latents = torch.randn(1, 4, 2, 2, 2).requires_grad_()
    weight = torch.randn(1, 4, 2, 2, 2)
    (codebook(latents).values * weight).sum().backward()
    through = latents.grad
    assert codebook.embedding.weight.grad is None
    plain = latents.detach().requires_grad_()
    (normalise_vectors(plain) * weight).sum().backward()
    assert through is not None
    assert plain.grad is not None
    assert torch.allclose(through, plain.grad, atol=1e-5)
    found = codebook(latents)
    assert float(found.codebook) == pytest.approx(float(found.commitment))
    assert torch.autograd.grad(found.codebook, latents, allow_unused=True, retain_graph=True) == (None,)
    assert float(torch.autograd.grad(found.codebook, codebook.embedding.weight)[0].abs().sum()) > 0
    found = codebook(latents)
    assert torch.autograd.grad(
        found.commitment, codebook.embedding.weight, allow_unused=True, retain_graph=True
    ) == (None,)
    assert float(torch.autograd.grad(found.commitment, latents)[0].abs().sum()) > 0


def test_gradients_reach_encoder_decoder_and_codebook() -> None:
    vqgan = tiny()
    volumes = torch.rand(2, 1, 8, 16, 16) * 2 - 1
    output, quantised = vqgan(volumes)
    reconstruction = (output - volumes).abs().mean()
    to_encoder = torch.autograd.grad(reconstruction, list(vqgan.encoder.parameters()), retain_graph=True)
    assert all(float(g.abs().sum()) > 0 for g in to_encoder[:2])
    (reconstruction + quantised.codebook + quantised.commitment).backward()
    for name, parameter in vqgan.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    used = quantised.codes.unique()
    assert vqgan.quantize.embedding.weight.grad is not None
    moved = vqgan.quantize.embedding.weight.grad.abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == used.tolist()


def test_a_euclidean_codebook_gives_the_nearest_code_itself_and_starts_near_zero() -> None:
    torch.manual_seed(0)
    codebook = Codebook(32, 6, homogeneous=False)
    assert float(codebook.embedding.weight.abs().max()) <= 1 / 32
    with torch.no_grad():
        codebook.embedding.weight.normal_()
    latents = torch.randn(2, 6, 5, 3, 2)
    found = codebook(latents)
    distances = torch.cdist(latents.movedim(1, -1).reshape(-1, 6), codebook.embedding.weight.detach())
    assert torch.equal(found.codes.flatten(), distances.argmin(1))
    expected = codebook.embedding.weight[found.codes].movedim(-1, 1)
    assert torch.allclose(found.values, expected, atol=1e-6)
    assert float(found.codebook) == pytest.approx(
        float(distances.min(1).values.square().mean() / 6), rel=1e-5
    )


def test_the_super_resolution_head_starts_without_effect_and_costs_what_the_paper_says() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    with_head = VQGAN((8, 16), (2,), 1, 4, 16, super_resolution=True)
    without = VQGAN((8, 16), (2,), 1, 4, 16)
    without.load_state_dict({n: t for n, t in with_head.state_dict().items() if "super_resolution" not in n})
    volumes = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(with_head(volumes)[0], without(volumes)[0])
    costs = []
    with torch.device("meta"):
        for network in (VQGAN(), VQGAN(super_resolution=True)):
            counter = FlopCounterMode(display=False)
            with counter, torch.no_grad():
                network.decode_quantised(torch.zeros(1, 8, 32, 32, 32))
            costs.append((sum(p.numel() for p in network.parameters()), counter.get_total_flops()))
    assert (costs[1][0] - costs[0][0]) / 1e6 == pytest.approx(0.6, abs=0.05)
    assert (costs[1][1] - costs[0][1]) / 1e12 == pytest.approx(0.32, abs=0.05)


def test_in_the_releases_order_of_axes_the_same_network_turns_volumes_and_latents() -> None:
    turned = VQGAN((4, 8, 8), (2, 2), 1, 3, 16, groups=4, released_axes=True).eval()
    turned.load_state_dict(tiny((2, 2)).state_dict())
    volumes = torch.rand(1, 1, 8, 12, 16)
    with torch.no_grad():
        latents = turned.encode(volumes)
        assert torch.equal(latents, tiny((2, 2)).encode(volumes.transpose(2, 4)).transpose(2, 4))
        expected = tiny((2, 2)).decode(latents.transpose(2, 4)).transpose(2, 4)
        assert (turned.decode(latents) - expected).abs().max() < 1e-6


def test_codebook_usage_is_1_for_one_code_and_all_for_even_use() -> None:
    one = codebook_usage(torch.full((2, 3, 3, 3), 5), 8)
    assert (float(one["perplexity"]), float(one["codes_used"])) == (1.0, 0.125)
    even = codebook_usage(torch.arange(8).repeat(4), 8)
    assert (float(even["perplexity"]), float(even["codes_used"])) == (pytest.approx(8.0), 1.0)
    halves = codebook_usage(torch.tensor([0, 0, 0, 1]), 4)
    assert float(halves["perplexity"]) == pytest.approx(
        math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    )
    assert float(halves["codes_used"]) == 0.5
