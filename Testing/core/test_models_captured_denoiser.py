"""A captured pass gives what the denoiser gives, and what cannot be captured is computed with a reason."""

from collections.abc import Callable

import pytest
import torch
from captured_passes import Addresses

from xray2ctpa_core.models.denoisers import captured
from xray2ctpa_core.models.denoisers.captured import CapturedDenoiser
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.models.protocols import Conditioning


@pytest.fixture
def denoiser() -> SpatialDenoiser:
    torch.manual_seed(0)
    network = SpatialDenoiser(2, 3, 5, channels=(8, 16), condition_dim=8).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, 0, 0.2)
    return network


def given(batch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, 2, 4, 8, 8, generator=generator)
    spatial = torch.randn(batch, 3, 4, 8, 8, generator=generator)
    condition = Conditioning(torch.randn(batch, 5, generator=generator), spatial)
    return sample, torch.randint(1000, (batch,), generator=generator), condition


def test_each_set_of_shapes_is_captured_once_and_every_result_is_the_denoisers(
    denoiser: SpatialDenoiser,
) -> None:
    recorder = Addresses()
    fast = CapturedDenoiser(denoiser, recorder)
    kept = []
    with torch.no_grad():
        for batch, seed in ((1, 0), (2, 1), (1, 2), (2, 3)):
            arguments = given(batch, seed)
            kept.append((fast(*arguments), denoiser(*arguments)))
            assert fast.reason == ""
    assert recorder.recorded == 2
    # compared at the end: a result is not written over by the next pass
    assert all(torch.equal(ours, theirs) for ours, theirs in kept)
    assert not torch.equal(kept[0][0], kept[2][0])


def test_a_pass_first_met_in_inference_mode_is_repeated_outside_of_it(denoiser: SpatialDenoiser) -> None:
    fast = CapturedDenoiser(denoiser, Addresses())
    with torch.inference_mode():
        fast(*given(1, 0))
    with torch.no_grad():
        assert torch.equal(fast(*given(1, 1)), denoiser(*given(1, 1)))


def test_an_embedding_alone_is_a_conditioning_too() -> None:
    network = PaperDenoiser(2, 6, 8, (1, 2), heads=2).eval()
    fast = CapturedDenoiser(network, Addresses())
    sample, timestep, embedding = torch.randn(1, 2, 4, 8, 8), torch.tensor([7]), torch.randn(1, 6)
    with torch.no_grad():
        expected = network(sample, timestep, embedding)
    assert torch.equal(fast(sample, timestep, embedding), expected)
    assert torch.equal(fast(sample, timestep, Conditioning(embedding)), expected)


def test_weights_changed_in_place_count_and_moved_ones_are_captured_anew(denoiser: SpatialDenoiser) -> None:
    recorder = Addresses()
    fast = CapturedDenoiser(denoiser, recorder)
    before = fast(*given(1, 0))
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight.mul_(1.5)
    after = fast(*given(1, 0))
    assert recorder.recorded == 1
    assert not torch.equal(before, after)
    denoiser.double().float()
    assert torch.allclose(fast(*given(1, 0)), after)
    assert recorder.recorded == 2


def test_only_so_many_graphs_are_kept(denoiser: SpatialDenoiser) -> None:
    recorder = Addresses()
    fast = CapturedDenoiser(denoiser, recorder)
    for batch in range(1, captured.GRAPHS + 2):
        fast(*given(batch, 0))
    fast(*given(captured.GRAPHS + 1, 1))
    assert recorder.recorded == captured.GRAPHS + 1
    fast(*given(1, 0))  # the oldest went
    assert recorder.recorded == captured.GRAPHS + 2


def test_a_cpu_a_network_in_training_and_autocast_are_computed_with_a_reason(
    denoiser: SpatialDenoiser,
) -> None:
    by_cuda, recorder = CapturedDenoiser(denoiser), Addresses()
    with torch.no_grad():
        assert torch.equal(by_cuda(*given(1, 0)), denoiser(*given(1, 0)))
    assert by_cuda.reason == "the device cpu captures nothing"
    fast = CapturedDenoiser(denoiser.train(), recorder)
    fast(*given(1, 0))
    assert "training" in fast.reason
    denoiser.eval()
    with torch.autocast("cpu", torch.bfloat16):
        fast(*given(1, 0))
    assert "autocast" in fast.reason
    assert recorder.recorded == 0


def test_a_capture_that_fails_is_not_tried_again_and_short_memory_is_raised(
    denoiser: SpatialDenoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Addresses()
    tried = []

    def fail(one_pass: Callable[[], torch.Tensor]) -> None:
        tried.append(one_pass)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(recorder, "record", fail)
    fast = CapturedDenoiser(denoiser, recorder)
    with torch.no_grad():
        expected = denoiser(*given(1, 0))
    for _ in range(2):
        assert torch.equal(fast(*given(1, 0)), expected)
    assert len(tried) == 1
    assert fast.reason.endswith("operation not permitted when stream is capturing")

    def short(one_pass: Callable[[], torch.Tensor]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(recorder, "record", short)
    with pytest.raises(torch.OutOfMemoryError):
        fast(*given(2, 0))
