"""A published checkpoint becomes a bundle that generates, of every configuration that the release allows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_system import (
    CONFIGURATIONS,
    converted_bundle,
    radiograph_encoder,
    stable_diffusion_codec,
    three_radiographs,
    trainer_checkpoint,
)

from xray2ctpa_core.benchmark.released_reference import random_weights, released_unet
from xray2ctpa_core.cli.main import main
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.pipelines.convert import convert_denoiser
from xray2ctpa_core.pipelines.loading import load_bundle
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.volume import FrontalFrame, Radiograph

SMALL = CONFIGURATIONS[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted_bundle(tmp_path_factory.mktemp("published"), **SMALL)


@pytest.fixture
def radiograph() -> Radiograph:
    return Radiograph(np.random.default_rng(0).random((90, 70)).astype(np.float32), name="noise.png")


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=["paper", "narrow", "two-levels"])
def test_a_converted_denoiser_gives_the_released_networks_output(
    tmp_path: Path, configuration: dict[str, Any]
) -> None:
    network, _ = convert_denoiser(trainer_checkpoint(tmp_path, **configuration))
    weights = random_weights(seed=5, **configuration)
    channels, embedding = configuration.get("latent_channels", 4), configuration.get("embedding", 512)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, channels, 12, 16, 16, generator=generator)
    condition = torch.randn(2, embedding, generator=generator)
    timestep = torch.tensor([3, 801])
    with torch.no_grad():
        ours = network(sample, timestep, condition)
        theirs = released_unet(weights, sample, timestep, condition)
    assert (ours - theirs).abs().max() < 1e-4


def test_the_bundle_is_whole_and_says_how_the_release_samples(bundle: Path) -> None:
    _, info = load_bundle(bundle)
    assert info.name == "converted"
    assert info.geometry.grid == (16, 64, 64)  # this codec halves a slice
    assert (info.cxr.framing, info.cxr.frame_pixels, info.cxr.keep_aspect) == ("whole", 224, False)
    assert (info.sampling.scheduler, info.sampling.largest_latent) == ("ddpm", 1.0)
    # min-max of the release: -12.911299 / 0.18215 becomes -1
    low = -12.911299 / 0.18215
    assert (low - info.latents.mean[0]) / info.latents.std[0] == pytest.approx(-1)
    assert json.loads((bundle / "conversion.json").read_text())["source"] == "model-9.pt"


def test_it_generates_from_a_radiograph_by_the_command(bundle: Path, tmp_path: Path) -> None:
    pixels = (np.random.default_rng(1).random((120, 100)) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    words = ["generate", str(tmp_path / "noise.png"), "--bundle", str(bundle), "--steps", "2", "--force"]
    assert main([*words, "--out", str(tmp_path / "result")]) == 0
    record = json.loads((tmp_path / "result" / "result.json").read_text())
    assert record["bundle"]["name"] == "converted"
    assert record["geometry"]["shape"] == [16, 64, 64]
    extent = [s * n for s, n in zip(record["geometry"]["spacing_mm"], (64, 64, 16), strict=True)]
    assert extent == pytest.approx([290, 210, 260])  # x, y, z
    assert record["geometry"]["spacing_source"] == "fixed extent of the bundle"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=["paper", "narrow", "two-levels"])
def test_three_real_radiographs_become_three_volumes_in_every_configuration(
    real_data: Path, tmp_path: Path, configuration: dict[str, Any]
) -> None:
    made, files = converted_bundle(tmp_path, **configuration), three_radiographs(real_data)
    words = ["generate", *map(str, files), "--bundle", str(made), "--steps", "2", "--force"]
    assert main([*words, "--out", str(tmp_path / "results")]) == 0
    volumes = [read_volume(path).array for path in sorted(tmp_path.glob("results/*/ctpa.nii.gz"))]
    assert [volume.shape for volume in volumes] == [(16, 64, 64)] * 3
    assert not np.array_equal(volumes[0], volumes[1])
    assert not np.array_equal(volumes[1], volumes[2])


def test_the_whole_radiograph_conditions_it_and_samples_differ_by_seed(
    bundle: Path, radiograph: Radiograph
) -> None:
    pipe = XRay2CTPAPipeline.from_pretrained(bundle)
    one = pipe(radiograph, num_inference_steps=2, force=True)
    assert one.frame == FrontalFrame(0.0, -10.0, 90.0)
    assert one.ctpa.array.min() >= -100.5
    other = Radiograph(1 - radiograph.pixels)
    assert not np.array_equal(one.ctpa.array, pipe(other, num_inference_steps=2, force=True).ctpa.array)
    assert not np.array_equal(
        one.ctpa.array, pipe(radiograph, num_inference_steps=2, seed=1, force=True).ctpa.array
    )


def test_guidance_by_the_null_embedding_changes_the_sample(bundle: Path, radiograph: Radiograph) -> None:
    import dataclasses

    pipe = XRay2CTPAPipeline.from_pretrained(bundle)
    plain = pipe(radiograph, num_inference_steps=2, force=True)
    sampling = dataclasses.replace(pipe.bundle.sampling, guidance_scale=3.0)
    pipe.bundle = dataclasses.replace(pipe.bundle, sampling=sampling)
    guided = pipe(radiograph, num_inference_steps=2, force=True)
    assert np.abs(guided.ctpa.array - plain.ctpa.array).max() > 1


def test_the_encoder_that_the_trainer_saved_takes_the_place_of_the_published_one(tmp_path: Path) -> None:
    from xray2ctpa_core.models.encoders.published import PublishedEncoder
    from xray2ctpa_core.pipelines.convert import encoder_tensors

    checkpoint = trainer_checkpoint(tmp_path, **SMALL)
    trunk = PublishedEncoder("small", None, 24).trunk
    wanted = trunk.state_dict()
    assert encoder_tensors(checkpoint, None, wanted) is None
    content = torch.load(checkpoint, weights_only=True)
    content["ema"] |= {f"xray_encoder.model.{key}": value + 1 for key, value in wanted.items()}
    torch.save(content, checkpoint)
    found = encoder_tensors(checkpoint, None, wanted)
    assert found is not None
    assert all(torch.equal(found[key], value + 1) for key, value in wanted.items())


@pytest.mark.parametrize(
    ("missing", "code", "expected"),
    [("encoder", 2, "needs --codec and --encoder"), ("classifier", 3, "holds no latent PE classifier")],
)
def test_what_is_missing_is_named_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str, code: int, expected: str
) -> None:
    checkpoint = trainer_checkpoint(tmp_path, **SMALL)
    if missing == "classifier":
        content = torch.load(checkpoint, weights_only=True)
        content["ema"] = {k: v for k, v in content["ema"].items() if not k.startswith("classifier.")}
        torch.save(content, checkpoint)
    words = ["convert", "x-ray2ctpa", str(checkpoint), str(tmp_path / "out")]
    words += ["--codec", str(stable_diffusion_codec(tmp_path))]
    if missing != "encoder":
        words += ["--encoder", str(radiograph_encoder(tmp_path))]
    assert main(words) == code
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_bench_runs_it(bundle: Path, tmp_path: Path) -> None:
    """From start to end as a command, and loaded, with two samples at once."""
    words = ["bench", "--bundle", str(bundle), "--bundle-steps", "2", "--samples", "2", "--quick"]
    words += ["--threads", "1", "--parts", "command,loaded", "--out", str(tmp_path)]
    assert main(words) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    command, loaded = found["end_to_end"][0], found["warm"][0]
    assert (command["steps"], loaded["steps"], loaded["samples"]) == (2, 2, 2)
    assert loaded["one_s"]["median"] < command["total_s"]["median"]
    assert loaded["same_voxels"]
    assert "## Side by side" in (tmp_path / "bench.md").read_text()
