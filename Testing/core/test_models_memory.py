"""Where memory is short a batch halves, nothing is lost, and the result says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xray2ctpa_core.models.memory import in_batches
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.volume import FrontalFrame, Radiograph

RADIOGRAPH = Radiograph(np.random.default_rng(0).random((128, 128), np.float32))
FRAME = FrontalFrame(0.0, 0.0, 128.0)


@pytest.fixture
def pipeline(pipeline_bundle: Path) -> XRay2CTPAPipeline:
    return XRay2CTPAPipeline.from_pretrained(pipeline_bundle)


def doubling(most: int, seen: list[int]):
    """Doubles its items; has memory for ``most`` at a time."""

    def run(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        if len(part) > most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return 2 * part

    return run


def test_a_batch_halves_until_it_fits_and_keeps_what_is_done() -> None:
    seen: list[int] = []
    steps: list[int] = []
    items = torch.arange(10)
    assert torch.equal(in_batches(doubling(2, seen), items, 8, steps.append), 2 * items)
    assert steps == [4, 2]
    assert seen == [8, 4, 2, 2, 2, 2, 2]


def test_fewer_items_than_a_batch_halve_from_their_number() -> None:
    steps: list[int] = []
    in_batches(doubling(3, []), torch.arange(5), 32, steps.append)
    assert steps == [2]


def test_a_single_item_that_does_not_fit_and_other_errors_are_raised() -> None:
    with pytest.raises(RuntimeError, match="allocate memory"):
        in_batches(doubling(0, []), torch.arange(3), 2)

    def wrong(part: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(wrong, torch.arange(3), 2)


def noting(function: Callable[..., Any], name: str, calls: list[str]) -> Callable[..., Any]:
    """``function``, each call of which adds ``name`` to ``calls``."""

    def noted(*args: Any, **settings: Any) -> Any:
        calls.append(name)
        return function(*args, **settings)

    return noted


def test_networks_that_do_not_fit_together_take_turns(
    pipeline: XRay2CTPAPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no GPU here: accelerate's hooks move networks from the CPU to the CPU, and say so."""
    plain = pipeline(RADIOGRAPH, frame=FRAME, num_samples=2)
    place, moves = pipeline.to, list[str]()

    def short(device: str, **settings: object) -> XRay2CTPAPipeline:
        if device == "cpu:0":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return place(device, **settings)

    monkeypatch.setattr(pipeline, "to", short)
    pipeline.place("cpu:0")
    assert pipeline.takes_turns
    for name in ("denoiser", "autoencoder"):
        hook = getattr(pipeline, name)._hf_hook
        monkeypatch.setattr(hook, "pre_forward", noting(hook.pre_forward, name, moves))
    result = pipeline(RADIOGRAPH, frame=FRAME, num_samples=2)
    assert list(dict.fromkeys(moves)) == ["denoiser", "autoencoder"]
    assert moves == sorted(moves, reverse=True)  # all of the one, then all of the other
    assert np.allclose(result.ctpa.array, plain.ctpa.array, atol=0.01)  # HU
    assert np.allclose(result.per_sample, plain.per_sample)
    assert "took turns" in result.notes[0]


def test_another_error_while_networks_are_moved_is_raised(pipeline: XRay2CTPAPipeline) -> None:
    with pytest.raises(RuntimeError, match="nowhere"):
        pipeline.place("nowhere")
    assert not pipeline.takes_turns


def test_a_pipeline_short_of_memory_gives_the_same_volume_and_says_so(
    pipeline: XRay2CTPAPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pipeline(RADIOGRAPH, frame=FRAME)
    assert plain.notes == ()
    decode = pipeline.autoencoder.decode

    def short(part: torch.Tensor):
        if len(part) > 8:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return decode(part)

    monkeypatch.setattr(pipeline.autoencoder, "decode", short)
    result = pipeline(RADIOGRAPH, frame=FRAME)
    assert np.allclose(result.ctpa.array, plain.ctpa.array, atol=0.01)  # HU
    assert result.notes == ("Memory was short: slices were decoded 8 at a time; the volume is the same.",)
