"""The pipeline in Python, on real networks at tiny size: seeds, precision, scheduler swaps, refusals."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from captured_passes import Addresses
from diffusers import DDIMScheduler

from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.errors import BundleError, InputError, NotFrontalCXRError
from xray2ctpa_core.explanation.gradcam import gradcam_peak
from xray2ctpa_core.models.denoisers.captured import CapturedDenoiser
from xray2ctpa_core.models.framing.style_transfer import StyleTransfer
from xray2ctpa_core.pipelines.bundle import FULL_HEAT, read_bundle_json, write_bundle_json
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.volume import FrontalFrame, Radiograph

FRAME = FrontalFrame(top=4.0, left=4.0, side=120.0)


@pytest.fixture
def radiograph() -> Radiograph:
    return Radiograph(np.random.default_rng(0).random((128, 128)).astype(np.float32), name="noise.png")


@pytest.fixture
def pipe(pipeline_bundle: Path) -> XRay2CTPAPipeline:
    return XRay2CTPAPipeline.from_pretrained(pipeline_bundle)


def test_a_torch_generator_and_its_seed_give_the_same_voxels(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    by_seed = pipe(radiograph, frame=FRAME, seed=5)
    by_generator = pipe(radiograph, frame=FRAME, generator=torch.Generator().manual_seed(5))
    assert np.array_equal(by_seed.ctpa.array, by_generator.ctpa.array)
    assert not np.array_equal(by_seed.ctpa.array, pipe(radiograph, frame=FRAME, seed=6).ctpa.array)


def test_three_samples_hold_the_first_and_spread_is_their_standard_deviation(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    one = pipe(radiograph, frame=FRAME, seed=1)
    three = pipe(radiograph, frame=FRAME, seed=1, num_samples=3, output_samples=True)
    assert one.spread is None
    assert three.samples is not None
    assert three.samples.shape == (3, 32, 64, 64)
    assert np.array_equal(three.ctpa.array, one.ctpa.array)
    assert np.array_equal(three.samples[0], one.ctpa.array)
    assert three.spread is not None
    assert np.allclose(three.spread.array, three.samples.std(0))
    assert three.per_sample[0] == one.per_sample[0]
    assert three.pe_probability == pytest.approx(np.mean(three.per_sample))


def test_half_precision_stays_near_single(pipeline_bundle: Path, radiograph: Radiograph) -> None:
    single = XRay2CTPAPipeline.from_pretrained(pipeline_bundle)(radiograph, frame=FRAME)
    half = XRay2CTPAPipeline.from_pretrained(pipeline_bundle, torch_dtype=torch.bfloat16)(
        radiograph, frame=FRAME
    )
    difference = np.abs(half.ctpa.array - single.ctpa.array).mean()
    assert 0 < difference < 0.25 * single.ctpa.array.std()


def test_a_scheduler_swapped_the_diffusers_way_is_the_one_taken_by_name(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    assert pipe.scheduler.config["clip_sample"] == pipe.scheduler.config["thresholding"] == False  # noqa: E712
    swapped = pipe(radiograph, frame=FRAME, num_inference_steps=4)
    pipe.set_scheduler("ddim")
    named = pipe(radiograph, frame=FRAME, num_inference_steps=4)
    assert np.allclose(swapped.ctpa.array, named.ctpa.array, atol=1e-3)


def test_what_cannot_be_sampled_is_refused(pipe: XRay2CTPAPipeline, radiograph: Radiograph) -> None:
    with pytest.raises(InputError, match="at least 1"):
        pipe(radiograph, frame=FRAME, num_samples=0)
    with pytest.raises(InputError, match="at least 1"):
        pipe(radiograph, frame=FRAME, num_inference_steps=0)
    with pytest.raises(InputError, match="scheduler"):
        pipe.set_scheduler("none")
    with pytest.raises(InputError, match="at most 1000 steps"):
        pipe(radiograph, frame=FRAME, num_inference_steps=1001)


def test_grad_cam_is_measured_against_the_bundles_full_heat(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    layer, grid = pipe.pe_classifier.gradcam_layer, pipe.bundle.geometry.grid
    own = pipe(radiograph, frame=FRAME).gradcam.array
    image = torch.from_numpy(frame_image(radiograph.pixels, FRAME, pipe.bundle.cxr.frame_pixels))
    latents = pipe.sample_latents(image[None, None])
    peak = gradcam_peak(pipe.pe_classifier, layer, latents, grid)  # type: ignore[arg-type]
    assert own.max() == 1.0
    pipe.bundle = dataclasses.replace(pipe.bundle, metrics={FULL_HEAT: 4 * peak})
    assert np.allclose(pipe(radiograph, frame=FRAME).gradcam.array, own / 4, atol=1e-3)
    pipe.bundle = dataclasses.replace(pipe.bundle, metrics={FULL_HEAT: peak / 4})
    assert np.array_equal(pipe(radiograph, frame=FRAME).gradcam.array, own)


def test_a_few_step_denoiser_and_its_sampler_go_with_nothing_else(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    with pytest.raises(InputError, match="was trained for, got 'lcm'"):
        pipe.set_scheduler("lcm")
    sampling = dataclasses.replace(pipe.bundle.sampling, scheduler="lcm")
    pipe.bundle = dataclasses.replace(pipe.bundle, sampling=sampling)
    with pytest.raises(InputError, match=r"was trained for, got 'dpm\+\+'"):
        pipe.set_scheduler("dpm++")
    pipe.set_scheduler("lcm")
    with pytest.raises(InputError, match="at most 25 steps"):
        pipe(radiograph, frame=FRAME, num_inference_steps=26)
    assert pipe(radiograph, frame=FRAME, num_inference_steps=1).ctpa.array.std() > 0


def test_the_gate_refuses_unless_forced(pipe: XRay2CTPAPipeline) -> None:
    blank = Radiograph(np.full((128, 128), 0.5, np.float32), name="blank.png")
    with pytest.raises(NotFrontalCXRError, match=r"blank\.png"):
        pipe(blank)
    assert not pipe(blank, force=True).gate.accepted


def test_a_bundle_that_asks_for_another_preprocessing_is_refused(
    pipeline_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(pipeline_bundle, folder)
    info = read_bundle_json(folder)
    write_bundle_json(folder, dataclasses.replace(info, cxr=dataclasses.replace(info.cxr, frame_margin=2.0)))
    with pytest.raises(BundleError, match="frame_margin"):
        XRay2CTPAPipeline.from_pretrained(folder)


def test_what_is_saved_gives_the_same_voxels(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph, tmp_path: Path
) -> None:
    pipe.taught_radiographs = TaughtRadiographs("a hospital", {"1.png": "ab12"})
    pipe.save_pretrained(tmp_path / "saved")
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert {"autoencoder", "denoiser", "scheduler", "xray_encoder", "pe_classifier", "lung_locator"} <= set(
        index
    )
    again = XRay2CTPAPipeline.from_pretrained(tmp_path / "saved")
    assert again.taught_radiographs == pipe.taught_radiographs
    before, after = (p(radiograph, frame=FRAME, seed=2) for p in (pipe, again))
    assert np.array_equal(before.ctpa.array, after.ctpa.array)
    assert np.array_equal(before.gradcam.array, after.gradcam.array)
    assert before.pe_probability == after.pe_probability


def test_a_sampler_that_was_swapped_is_saved(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph, tmp_path: Path
) -> None:
    pipe.set_scheduler("ddim")
    pipe.save_pretrained(tmp_path / "saved")
    again = XRay2CTPAPipeline.from_pretrained(tmp_path / "saved")
    assert isinstance(again.scheduler, DDIMScheduler)
    before, after = (p(radiograph, frame=FRAME).ctpa.array for p in (pipe, again))
    assert np.array_equal(before, after)


def test_a_second_pipeline_is_made_of_the_components_of_the_first(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    second = XRay2CTPAPipeline(**pipe.components)
    assert second.denoiser is pipe.denoiser
    assert np.array_equal(
        second(radiograph, frame=FRAME).ctpa.array, pipe(radiograph, frame=FRAME).ctpa.array
    )


def test_without_a_bundle_nothing_is_built(pipe: XRay2CTPAPipeline) -> None:
    with pytest.raises(InputError, match="Expected bundle"):
        XRay2CTPAPipeline(**(pipe.components | {"bundle": None}))


def test_a_generator_is_consumed(pipe: XRay2CTPAPipeline, radiograph: Radiograph) -> None:
    generator = torch.Generator().manual_seed(5)
    first, second = (pipe(radiograph, frame=FRAME, generator=generator).ctpa.array for _ in range(2))
    assert not np.array_equal(first, second)
    generator.manual_seed(5)
    assert np.array_equal(pipe(radiograph, frame=FRAME, generator=generator).ctpa.array, first)


def test_latents_that_a_callback_returns_are_gone_on_with(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    def blank(_pipe, _step, _timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])}

    one, other = (
        pipe(radiograph, frame=FRAME, seed=s, callback_on_step_end=blank).ctpa.array for s in (1, 2)
    )
    assert np.array_equal(one, other)  # what the seeds differ by is gone
    plain = pipe(radiograph, frame=FRAME, seed=1, callback_on_step_end=lambda *_: None).ctpa.array
    assert np.array_equal(plain, pipe(radiograph, frame=FRAME, seed=1).ctpa.array)


def test_an_estimate_is_computed_for_who_asks(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[set[str]] = []
    computed = []
    monkeypatch.setattr(
        "xray2ctpa_core.diffusion.sampling.clean_estimate",
        lambda _scheduler, sample, *_: computed.append(1) or sample,
    )

    def note(_pipe, _step, _timestep, tensors):
        given.append(set(tensors))

    pipe(radiograph, frame=FRAME, callback_on_step_end=note)
    assert (given, computed) == ([{"latents"}] * 2, [])
    both = ("latents", "estimate")
    pipe(radiograph, frame=FRAME, callback_on_step_end=note, callback_on_step_end_tensor_inputs=both)
    assert given[2:] == [set(both)] * 2
    assert len(computed) == 2
    with pytest.raises(InputError, match="noise"):
        pipe(radiograph, frame=FRAME, callback_on_step_end_tensor_inputs=("noise",))


@pytest.mark.parametrize("scheduler", ["dpm++", "ddpm"])
def test_samples_drawn_as_a_batch_are_those_drawn_one_by_one(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph, scheduler: str
) -> None:
    pipe.set_scheduler(scheduler)
    settings = {"frame": FRAME, "seed": 4, "num_samples": 3, "output_samples": True}
    sizes = []
    forward = pipe.denoiser.forward

    def counting(sample, *rest):
        sizes.append(len(sample))
        return forward(sample, *rest)

    pipe.denoiser.forward = counting
    one_by_one = pipe(radiograph, **settings).samples
    pipe.samples_at_once = 3
    at_once = pipe(radiograph, **settings).samples
    assert sizes == [1] * 6 + [3] * 2
    assert one_by_one is not None
    assert at_once is not None
    assert np.abs(at_once - one_by_one).max() < 0.5  # HU: the last bits of matrix products, before rounding


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_radiographs_that_share_batches_have_the_voxels_of_those_alone(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph, at_once: int
) -> None:
    """Two samples of each of two radiographs, also where a batch ends amid one; but for rounding."""
    other = dataclasses.replace(radiograph, pixels=radiograph.pixels[:, ::-1].copy(), name="other.png")
    pipe.samples_at_once = at_once
    framed = [pipe.framed(one, FRAME) for one in (radiograph, other)]
    together = pipe.of_framed(framed, num_inference_steps=3, num_samples=2, seed=5, output_samples=True)
    pipe.samples_at_once = 1
    for one, result in zip((radiograph, other), together, strict=True):
        alone = pipe(one, frame=FRAME, num_inference_steps=3, num_samples=2, seed=5, output_samples=True)
        assert result.radiograph is one
        assert np.abs(result.samples - alone.samples).max() < (1e-3 if at_once == 1 else 0.5)
        assert result.per_sample == pytest.approx(alone.per_sample, abs=1e-4)
        assert result.stage_seconds.keys() | {"locate"} == alone.stage_seconds.keys()
    assert np.abs(together[0].ctpa.array - together[1].ctpa.array).mean() > 1.0


def test_radiographs_that_share_batches_are_restyled_one_by_one(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    """So that neither the voxels of one nor the memory of its style transfer depend on the others."""
    torch.manual_seed(0)
    styled = XRay2CTPAPipeline(**pipe.components | {"style_transfer": StyleTransfer(width=4, blocks=1)})
    other = dataclasses.replace(radiograph, pixels=radiograph.pixels[:, ::-1].copy(), name="other.png")
    framed = [styled.framed(one, FRAME) for one in (radiograph, other)]
    sizes = []
    styled.style_transfer.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    together = styled.of_framed(framed, num_inference_steps=3, num_samples=2, seed=5)
    assert sizes == [1, 1]
    alone = [styled(one, frame=FRAME, num_inference_steps=3, seed=5) for one in (radiograph, other)]
    assert all(np.array_equal(a.ctpa.array, b.ctpa.array) for a, b in zip(together, alone, strict=True))
    plain = pipe(other, frame=FRAME, num_inference_steps=3, seed=5).ctpa.array
    assert not np.array_equal(alone[1].ctpa.array, plain)


def test_passes_are_captured_where_the_device_can_and_the_steps_are_worth_it(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    """The recorder stands for CUDA graphs; a second sample and a second radiograph repeat one capture."""
    plain = pipe(radiograph, frame=FRAME, num_inference_steps=4, num_samples=2, output_samples=True)
    assert pipe.not_captured == "the device cpu captures nothing"
    recorder = Addresses()
    pipe._captured = CapturedDenoiser(pipe.denoiser, recorder)
    for _ in range(2):
        again = pipe(radiograph, frame=FRAME, num_inference_steps=4, num_samples=2, output_samples=True)
        assert plain.samples is not None
        assert np.array_equal(again.samples, plain.samples)
    assert (recorder.recorded, pipe.not_captured) == (1, "")
    pipe(radiograph, frame=FRAME, num_inference_steps=3, num_samples=1)
    assert pipe.not_captured == "3 steps are not worth it"
    pipe.samples_at_once = 2
    pipe(radiograph, frame=FRAME, num_inference_steps=3, num_samples=2)
    assert recorder.recorded == 1  # three steps are not worth a capture
    pipe(radiograph, frame=FRAME, num_inference_steps=4, num_samples=2)
    assert recorder.recorded == 2  # two at once are other shapes


def test_another_denoiser_is_not_computed_by_the_graphs_of_the_former(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    pipe._captured = CapturedDenoiser(pipe.denoiser, Addresses())
    before = pipe(radiograph, frame=FRAME, num_inference_steps=4).ctpa.array
    pipe.denoiser = copy.deepcopy(pipe.denoiser)
    with torch.no_grad():
        for weight in pipe.denoiser.parameters():
            weight.mul_(1.5)
    expected = XRay2CTPAPipeline(**pipe.components)(radiograph, frame=FRAME, num_inference_steps=4).ctpa.array
    after = pipe(radiograph, frame=FRAME, num_inference_steps=4).ctpa.array
    assert np.array_equal(after, expected)
    assert not np.array_equal(after, before)


def test_what_is_aligned_counts_beside_what_is_denoised(
    pipe: XRay2CTPAPipeline, radiograph: Radiograph
) -> None:
    stages = list(pipe(radiograph, frame=FRAME).stage_seconds)
    assert stages[:4] == ["locate", "denoise", "align", "decode"]
