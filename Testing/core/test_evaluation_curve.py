"""Quality against steps: measured beside the papers' sampler, kept in the bundle, followed by the presets."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from evaluation_cohort import GRID, ArithmeticPipeline, bundle, write_patient
from tiny_bundle import write_tiny_bundle

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")

from xray2ctpa_core.cli import bench
from xray2ctpa_core.cli.main import main
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.curve import (
    CurveConfig,
    markdown,
    measure_curve,
    preset_steps,
    store_curve,
)
from xray2ctpa_core.evaluation.patients import cohort_patients
from xray2ctpa_core.pipelines.bundle import PresetSteps, read_bundle_json, verify_bundle


class SteppingPipeline(ArithmeticPipeline):
    """The true volume of the first patient under noise of 400 HU over the number of steps; the second sample
    has the opposite noise."""

    def __init__(self, template: np.ndarray) -> None:
        super().__init__(template, bundle(sampling=bundle().sampling))
        self.scheduler = self.bundle.sampling.scheduler
        self.calls: list[tuple[str, int, int]] = []

    def set_scheduler(self, name: str) -> None:
        self.scheduler = name

    def __call__(self, radiograph, *, frame, num_samples, num_inference_steps, seed, output_samples):
        self.calls.append((self.scheduler, num_inference_steps, num_samples))
        noise = np.random.default_rng(seed).normal(0, 400 / num_inference_steps, GRID)
        samples = np.stack([self.template + noise, self.template - noise])[:num_samples]
        return SimpleNamespace(samples=samples.astype(np.float32))


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    for number in range(3):
        write_patient(tmp_path / "unseen", number, pe=False, heart=6)
    return tmp_path / "unseen"


@pytest.fixture
def pipeline(cohort: Path) -> SteppingPipeline:
    return SteppingPipeline(cohort_patients(cohort, "test")[0].hu)


def point(
    steps: int, psnr: float, correlation: float, ssim: float, perceptual: float, spread: float = 30.0
) -> dict:
    names = ("psnr", "parallel_correlation", "ssim", "perceptual", "spread")
    values = zip(names, (psnr, correlation, ssim, perceptual, spread), strict=True)
    return {"steps": steps} | {n: {"estimate": v, "lower": v - 0.1, "upper": v + 0.1} for n, v in values}


def test_presets_are_the_fewest_steps_that_are_no_worse_than_the_reference() -> None:
    reference = point(1000, 20.0, 0.9, 0.6, 0.5)
    points = [
        point(1, 21.0, 0.95, 0.7, 0.4, spread=0.1),  # the expectation: fine, but always the same
        point(2, 19.0, 0.9, 0.6, 0.5),  # PSNR below the interval
        point(4, 19.95, 0.85, 0.4, 0.9),  # in place, but with another texture
        point(10, 21.0, 0.95, 0.55, 0.55),
        point(50, 20.0, 0.9, 0.6, 0.5),
    ]
    assert preset_steps([*points, reference]) == PresetSteps(1, 10, 50)
    assert preset_steps([*points[1:], reference]) == PresetSteps(4, 10, 50)
    assert preset_steps([*points[1:3], reference]) == PresetSteps(4, 4, 4)


def test_the_curve_has_a_point_a_number_of_steps_and_the_reference_last(
    cohort: Path, pipeline: SteppingPipeline, tmp_path: Path
) -> None:
    config = CurveConfig((2, 8), 40, patients=2)
    done: list[int] = []
    out = tmp_path / "out"
    curve = measure_curve(cohort, pipeline, config, out, lambda _what, number, _of: done.append(number))
    assert done == [1, 2, 3, 4, 5, 6]
    assert pipeline.calls == [("ddpm", 2, 2), ("ddpm", 8, 2), ("ddpm", 40, 1)] * 2
    assert [(p["scheduler"], p["steps"], p["n"]) for p in curve["points"]] == [
        ("ddpm", 2, 2), ("ddpm", 8, 2), ("ddpm", 40, 2),
    ]  # fmt: skip
    psnr = [p["psnr"]["estimate"] for p in curve["points"]]
    # noise of 200, 50 and 10 HU in a window of 1900: 19.6, 31.6 and 45.6 dB, more where it is clipped
    assert psnr == pytest.approx([19.6, 31.6, 45.6], abs=2.0)
    assert curve["points"][0]["difference"]["psnr"]["estimate"] == pytest.approx(psnr[0] - psnr[2])
    assert curve["points"][2]["difference"]["psnr"]["estimate"] == 0
    spread = [p["spread"]["estimate"] for p in curve["points"][:2]]
    assert spread == pytest.approx([200, 50], rel=0.02)
    assert "spread" not in curve["points"][2]
    assert curve["presets"] == {"preview": 8, "standard": 8, "reference": 8}
    again = measure_curve(cohort, pipeline, config, out)
    assert len(pipeline.calls) == 6  # every row was kept
    assert again == curve == json.loads(json.dumps(curve))
    assert "Preview 8 steps, Standard 8 steps, Reference 8 steps" in markdown(curve)


def test_a_few_step_bundle_is_held_to_its_teacher(
    cohort: Path, pipeline: SteppingPipeline, tmp_path: Path, monkeypatch, capsys
) -> None:
    few = SteppingPipeline(pipeline.template)
    few.bundle = replace(few.bundle, sampling=replace(few.bundle.sampling, scheduler="lcm"))
    curve = measure_curve(cohort, few, CurveConfig((1, 2), 30, patients=1), reference=pipeline)
    assert few.calls == [("lcm", 1, 2), ("lcm", 2, 2)]
    assert pipeline.calls == [("ddpm", 30, 1)]
    assert [(p["scheduler"], p["steps"]) for p in curve["points"]] == [("lcm", 1), ("lcm", 2), ("ddpm", 30)]
    monkeypatch.setattr(bench, "load_pipelines", lambda names, device: [few])
    assert main(["bench", "--curve", str(cohort), "--patients", "1"]) == 2
    assert "--reference-bundle" in capsys.readouterr().err


def test_the_curve_is_kept_in_the_bundle_and_read_by_the_presets(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny")
    points = [point(s, 20.0, 0.9, 0.6, 0.5) | {"scheduler": "dpm++", "n": 3} for s in (2, 5)]
    before = read_bundle_json(folder)
    presets = {"preview": 2, "standard": 2, "reference": 5}
    info = store_curve(folder, {"points": points, "presets": presets})
    assert verify_bundle(folder) == info
    assert info.preset_steps == PresetSteps(2, 2, 5)
    assert info.metrics["psnr"] == before.metrics["psnr"]
    assert info.metrics["quality against steps"]["points"]["dpm++ 5"]["ssim"] == 0.6


def test_the_command_prints_the_curve_and_stores_it_on_request(
    cohort: Path, pipeline: SteppingPipeline, tmp_path: Path, monkeypatch, capsys
) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny")
    monkeypatch.setattr(bench, "load_pipelines", lambda names, device: [pipeline])
    arguments = ["--bundle", str(folder), "--steps", "2,8", "--reference-steps", "9", "--patients", "2"]
    out = tmp_path / "out"
    assert main(["bench", "--curve", str(cohort), *arguments, "--out", str(out), "--store"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith((out / "curve.md").read_text())
    assert "Kept in tiny 0.1" in printed
    assert json.loads((out / "curve.json").read_text())["points"][0]["steps"] == 2
    assert read_bundle_json(folder).preset_steps == PresetSteps(8, 8, 8)


@pytest.mark.parametrize("text", ["", "a", "4,2", "0,3", "2,2"])
def test_steps_that_do_not_rise_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="rising numbers"):
        bench.parsed_steps(text)


@pytest.mark.parametrize(
    "arguments", [["--store"], ["--curve", "nowhere"], ["--bundle", "no-such-bundle"], ["--denoiser", "none"]]
)
def test_unusable_arguments_are_told_in_two_lines(
    arguments: list[str], capsys, monkeypatch, pipeline
) -> None:
    if "--curve" in arguments:
        monkeypatch.setattr(bench, "load_pipelines", lambda names, device: [pipeline])
    assert main(["bench", *arguments]) in (2, 3)
    lines = capsys.readouterr().err.strip().splitlines()
    assert 1 <= len(lines) <= 2
    assert lines[0].startswith("Error: ")
