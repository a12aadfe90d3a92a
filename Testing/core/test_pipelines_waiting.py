"""How often a whole call waits for a GPU: a fixed number of times, in no step and no iteration."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import OnDevice, PretendedGpu, place, pretended_gpu

from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.diffusion.sampling import clipped_epsilon, sample_latents
from xray2ctpa_core.diffusion.schedulers import SCHEDULERS, make_scheduler, papers_schedule
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.pipelines.parts import NETWORKS
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.pipelines.result import XRay2CTPAResult
from xray2ctpa_core.volume import Radiograph

#: Waits of a call with one sample: what the host needs to go on, or hands back. The gate needs masks and
#: class; a result consists of a volume, a score, a map, the distance from training and the agreement.
EXPECTED = {
    "locate": 1,
    "denoise": 0,
    "align": 0,
    "decode": 1,
    "classify": 1,
    "explain": 1,
    "check": 2,
    "": 0,
}


@pytest.fixture(scope="module")
def sample() -> Radiograph:
    return read_radiograph(SAMPLE_CXR)


@pytest.fixture
def shipped() -> XRay2CTPAPipeline:
    return XRay2CTPAPipeline.from_pretrained(DEFAULT_BUNDLE)


def call(
    pipeline: XRay2CTPAPipeline, radiograph: Radiograph, steps: int, alignment: int, samples: int = 1
) -> XRay2CTPAResult:
    sampling = dataclasses.replace(pipeline.bundle.sampling, alignment=alignment)
    pipeline.bundle = dataclasses.replace(pipeline.bundle, sampling=sampling)
    return pipeline(radiograph, num_inference_steps=steps, num_samples=samples, seed=1, force=True)


def on_the_gpu(pipeline: XRay2CTPAPipeline) -> None:
    place(*(getattr(pipeline, name) for name in NETWORKS if getattr(pipeline, name) is not None))


def test_no_step_of_the_sampler_and_no_iteration_of_the_alignment_waits(
    shipped: XRay2CTPAPipeline, sample: Radiograph
) -> None:
    """The shipped bundle, from a radiograph to a result; also with fewer steps and more iterations."""
    found = []
    for steps, alignment in ((1, 2), (3, 1)):
        with pretended_gpu() as gpu:
            if not found:
                on_the_gpu(shipped)
            call(shipped, sample, steps, alignment)
        found.append({stage: gpu.of(stage) for stage in EXPECTED})
        assert gpu.waits.total() == sum(EXPECTED.values()), gpu.waits
    assert found == [EXPECTED, EXPECTED]


def test_samples_add_a_volume_each_and_nothing_else(shipped: XRay2CTPAPipeline, sample: Radiograph) -> None:
    with pretended_gpu() as gpu:
        on_the_gpu(shipped)
        call(shipped, sample, 1, 1, samples=2)
    assert {stage: gpu.of(stage) for stage in EXPECTED} == EXPECTED | {"decode": 2}


def test_what_is_computed_on_it_is_what_a_cpu_computes(pipeline_bundle: Path, sample: Radiograph) -> None:
    """So that the count is that of a call that does its work; the tiny bundle, for its speed."""
    expected = call(XRay2CTPAPipeline.from_pretrained(pipeline_bundle), sample, 2, 1)
    pipeline = XRay2CTPAPipeline.from_pretrained(pipeline_bundle)
    with pretended_gpu() as gpu:
        on_the_gpu(pipeline)
        found = call(pipeline, sample, 2, 1)
        assert all(isinstance(weight, OnDevice) for weight in pipeline.denoiser.parameters())
    assert gpu.of("denoise") == gpu.of("align") == 0
    assert np.abs(found.ctpa.array - expected.ctpa.array).mean() < 1.0
    assert np.abs(found.ctpa.array - expected.ctpa.array).max() < 100.0
    assert found.per_sample == pytest.approx(expected.per_sample, abs=1e-3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_sampler_waits_in_its_steps(name: str, gpu: PretendedGpu) -> None:
    """Two samples in six steps, their clean latents bounded and estimated in each, as for a preview."""
    scheduler = make_scheduler(name, papers_schedule())
    generators = [torch.Generator().manual_seed(number) for number in range(2)]
    seen = []

    def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return clipped_epsilon(scheduler, sample, 0.9 * sample, timestep, 3.0)

    def on_step_end(step: int, _timestep: Any, latents: torch.Tensor, estimate: Any) -> torch.Tensor:
        assert isinstance(estimate(), OnDevice)
        seen.append(step)
        return latents

    noise = torch.randn(2, 1, 2, 2, 2).to("meta")
    sampled = sample_latents(model, scheduler, noise, 6, generators, on_step_end)
    assert seen == list(range(6))
    assert gpu.waits.total() == 0, gpu.waits
    assert sampled.cpu().isfinite().all()


@pytest.fixture
def gpu() -> Iterator[PretendedGpu]:
    with pretended_gpu() as gpu:
        yield gpu


def test_every_way_to_read_off_the_device_is_counted(gpu: PretendedGpu) -> None:
    """And nothing else: neither sums on it nor what is sent to it."""
    x = torch.arange(4.0, device="meta") + torch.ones(4).to("meta")
    assert isinstance(x, OnDevice)
    assert gpu.waits.total() == 0
    reads = (
        lambda: float(x[0]), lambda: bool(x.sum() > 0), lambda: x.cpu(), lambda: x[x > 2],
        lambda: x.nonzero(), lambda: torch.zeros(4).copy_(x), lambda: x.to(torch.zeros(1)),
    )  # fmt: skip
    for number, read in enumerate(reads, 1):
        read()
        assert gpu.waits.total() == number
    assert x.cpu().tolist() == [1.0, 2.0, 3.0, 4.0]
