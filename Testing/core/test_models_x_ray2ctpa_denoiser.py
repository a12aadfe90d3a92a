"""The papers' denoiser is the released network: its tensors, and what it computes with them."""

import pytest
import torch

from xray2ctpa_core.benchmark.released_reference import (
    bucket,
    random_weights,
    released_shapes,
    released_unet,
)
from xray2ctpa_core.models.denoisers.lora import merged, with_lora
from xray2ctpa_core.models.denoisers.x_ray2ctpa import BUCKET_STARTS, PaperDenoiser

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights(seed=1)


@pytest.fixture(scope="module")
def denoiser(weights: dict[str, torch.Tensor]) -> PaperDenoiser:
    network = PaperDenoiser()
    network.load_state_dict(weights)
    return network.eval()


def inputs(*shape: int) -> Inputs:
    generator = torch.Generator().manual_seed(2)
    sample = torch.randn(shape, generator=generator)
    timesteps = torch.tensor([999, 37])[: shape[0]]
    return (
        sample,
        timesteps,
        torch.nn.functional.normalize(torch.randn(shape[0], 512, generator=generator), dim=1),
    )


def test_it_has_the_released_parameters_and_tensors(denoiser: PaperDenoiser) -> None:
    """The frequencies of the rotary embedding are one parameter in ten places."""
    assert sum(parameter.numel() for parameter in denoiser.parameters()) == 12_007_252
    shapes = released_shapes()
    assert len(shapes) == 301
    assert {name: tuple(tensor.shape) for name, tensor in denoiser.state_dict().items()} == shapes


@pytest.mark.parametrize(
    "shape", [(1, 4, 8, 16, 16), (2, 4, 3, 8, 24), (1, 4, 40, 8, 8)], ids=["plain", "batch", "deep"]
)
@pytest.mark.parametrize("gradients", [False, True], ids=["in inference", "in training"])
def test_its_output_is_that_of_the_released_network(
    denoiser: PaperDenoiser, weights: dict[str, torch.Tensor], shape: tuple[int, ...], gradients: bool
) -> None:
    given = inputs(*shape)
    with torch.set_grad_enabled(gradients):
        expected = released_unet(weights, *given)
        output = denoiser(*given)
    assert 0.1 < expected.std() < 10
    assert output.shape == shape
    assert (output - expected).abs().max() < 1e-4


def test_the_comparison_would_see_a_wrong_bias_rotation_gain_or_conditioning(
    weights: dict[str, torch.Tensor],
) -> None:
    """Each change is one that a slip in the code could make; all are far above the tolerance."""
    given = inputs(1, 4, 8, 8, 8)
    changes = {
        "time_rel_pos_bias.relative_attention_bias.weight": lambda w: w.roll(16, 0),
        "downs.1.3.fn.fn.fn.rotary_emb.freqs": lambda w: w.flip(0),
        "mid_spatial_attn.fn.norm.gamma": torch.ones_like,
        "downs.0.0.mlp.1.weight": lambda w: w.roll(128, 1),
        "ups.2.4.weight": lambda w: w.flip(-1),
    }
    with torch.no_grad():
        before = released_unet(weights, *given)
        for name, change in changes.items():
            after = released_unet(weights | {name: change(weights[name])}, *given)
            assert (after - before).abs().max() > 1e-3, name


def test_every_tensor_but_the_null_embedding_and_the_frequencies_is_trained() -> None:
    network = PaperDenoiser()
    network(*inputs(1, 4, 4, 8, 8)).square().mean().backward()
    untouched = {
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    assert untouched == {"null_cond_emb", "init_temporal_attn.fn.fn.fn.rotary_emb.freqs"}


def test_a_case_gives_the_same_alone_and_in_a_batch(denoiser: PaperDenoiser) -> None:
    sample, timestep, conditioning = inputs(2, 4, 4, 8, 8)
    with torch.no_grad():
        both = denoiser(sample, timestep, conditioning)
        alone = denoiser(sample[1:], timestep[1:], conditioning[1:])
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_distances_fall_into_the_buckets_of_t5() -> None:
    """From 8 on a bucket spans a factor of 4 ** (1/8): 8, 9.5, 11.3, 13.5, 16, 19.0, 22.6, 26.9."""
    assert BUCKET_STARTS == (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 23, 27)
    for distance in range(70):
        assert sum(start <= distance for start in BUCKET_STARTS) == bucket(distance, 0)
        assert bucket(0, distance) == bucket(distance, 0) + (16 if distance else 0)


def test_a_plane_that_cannot_be_halved_three_times_is_refused(denoiser: PaperDenoiser) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        denoiser(*inputs(1, 4, 2, 8, 12))


def test_a_width_that_the_groups_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of groups"):
        PaperDenoiser(width=12)


def test_wide_heads_give_the_same_in_inference_and_in_training() -> None:
    """Of a head's 40 features along the depth, 32 are rotated. Places of a slice are computed in parts of
    different size."""
    torch.manual_seed(0)
    network = PaperDenoiser(width=8, multipliers=(1, 2), heads=2, embedding_dim=6, head_dim=40).eval()
    sample, timestep, conditioning = torch.randn(1, 4, 40, 14, 10), torch.tensor([500]), torch.randn(1, 6)
    training = network(sample, timestep, conditioning)
    with torch.no_grad():
        inference = network(sample, timestep, conditioning)
    assert training.requires_grad
    assert not inference.requires_grad
    assert (training - inference).abs().max() < 1e-5 * training.abs().max()


def test_it_runs_in_inference_under_autocast() -> None:
    torch.manual_seed(0)
    network = PaperDenoiser(width=8, multipliers=(1, 2), heads=2, embedding_dim=6).eval()
    given = torch.randn(1, 4, 4, 8, 8), torch.tensor([500]), torch.randn(1, 6)
    with torch.no_grad():
        single = network(*given)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(*given)
    assert 0 < (half.float() - single).abs().max() < 0.1 * single.abs().max()


def test_inference_heeds_low_rank_updates() -> None:
    torch.manual_seed(0)
    network = PaperDenoiser(width=8, multipliers=(1, 2), heads=2, embedding_dim=6).eval()
    updated = with_lora(network, 2)
    for name, parameter in updated.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    given = torch.randn(1, 4, 4, 8, 8), torch.tensor([500]), torch.randn(1, 6)
    with torch.no_grad():
        inference = updated(*given)
        by_merged = merged(updated)(*given)
    assert (inference - by_merged).abs().max() < 1e-4 * by_merged.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_runs_in_half_precision_and_stays_near(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = PaperDenoiser(width=8, multipliers=(1, 2), heads=2, embedding_dim=6).eval()
    sample, timestep, conditioning = torch.randn(1, 4, 4, 8, 8), torch.tensor([500]), torch.randn(1, 6)
    with torch.no_grad():
        single = network(sample, timestep, conditioning)
        half = network.to(dtype)(sample.to(dtype), timestep, conditioning.to(dtype))
    assert half.dtype == dtype
    assert (half.float() - single).abs().max() < 0.1 * single.abs().max()


def test_what_save_pretrained_writes_from_pretrained_reads(
    denoiser: PaperDenoiser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    denoiser.save_pretrained(folder)
    again = PaperDenoiser.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in again.parameters()) == 12_007_252
    for name, tensor in denoiser.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
