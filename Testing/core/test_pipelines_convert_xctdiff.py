"""`xray2ctpa convert xctdiff-...`: published checkpoints in, networks that compute the same out."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_runs import assert_refused
from PIL import Image
from released_xctdiff import Seeded, encoder_condition, encoder_regression, vqgan_decode, vqgan_encode

from xray2ctpa_core.benchmark.released_reference import random_weights, released_unet
from xray2ctpa_core.cli.main import main
from xray2ctpa_core.models.protocols import Conditioning
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline

Tensors = dict[str, torch.Tensor]
Convert = Callable[..., subprocess.CompletedProcess[str]]
CHANNELS, BLOCKS, GROUPS, CODES = (16, 32, 32), 1, 4, 64


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    """Saves a state dict as Lightning does and converts it to the folder out."""

    def run(state: Any, kind: str, *more: str) -> subprocess.CompletedProcess[str]:
        content = {"epoch": 3, "global_step": 9, "state_dict": state, "pytorch-lightning_version": "1.4.2"}
        torch.save(content, tmp_path / "last.ckpt")
        code = main(["convert", kind, str(tmp_path / "last.ckpt"), str(tmp_path / "out"), *more])
        captured = capsys.readouterr()
        return subprocess.CompletedProcess([], code, captured.out, captured.err)

    return run


def vqgan(volume: torch.Tensor, attended: int | None = None) -> tuple[Seeded, torch.Tensor, torch.Tensor]:
    """Weights, latents and reconstruction."""
    weights = Seeded(1)
    latents = vqgan_encode(weights, volume, CHANNELS, BLOCKS, GROUPS, attended)
    return weights, latents, vqgan_decode(weights, latents, CHANNELS, BLOCKS, GROUPS, CODES, attended)


@pytest.mark.parametrize("attended", [None, 1])
def test_a_vqgan_gives_the_released_latents_and_volumes(
    convert: Convert, tmp_path: Path, attended: int | None
) -> None:
    volume = torch.rand(2, 1, 8, 12, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    weights, latents, decoded = vqgan(volume, attended)
    state = weights | {"loss.discriminator.main.0.weight": torch.ones(2), "loss.logvar": torch.zeros(())}
    done = convert(state, "xctdiff-vqgan", "--groups", str(GROUPS))
    assert done.returncode == 0, done.stderr
    network = load_part(tmp_path / "out")
    assert network.config["channels"] == list(CHANNELS)
    with torch.no_grad():
        found = network.encode(volume)
        again = network.decode(latents)
    assert found.shape == (2, 8, 2, 3, 4)
    assert 0.1 < latents.std() < 10
    assert (found - latents).abs().max() < 1e-5
    assert (again - decoded).abs().max() < 1e-5


def test_the_groups_matter_and_are_the_published_ones_by_default(convert: Convert, tmp_path: Path) -> None:
    volume = torch.rand(1, 1, 8, 8, 8)
    weights = Seeded(1)
    latents = vqgan_encode(weights, volume, CHANNELS, BLOCKS, 8)
    vqgan_decode(weights, latents, CHANNELS, BLOCKS, 8, CODES)
    assert convert(dict(weights), "xctdiff-vqgan").returncode == 0
    with torch.no_grad():
        assert (load_part(tmp_path / "out").encode(volume) - latents).abs().max() < 1e-5
    assert (vqgan_encode(weights, volume, CHANNELS, BLOCKS, GROUPS) - latents).abs().max() > 1e-2


@pytest.mark.parametrize("groups", [16, 2])
def test_an_encoder_gives_the_released_condition_and_volume(
    convert: Convert, tmp_path: Path, groups: int
) -> None:
    weights, image = Seeded(2), torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    condition = encoder_condition(weights, image, 32, (1, 4), 8, groups)
    volume = encoder_regression(weights, condition, 32, CODES, groups)
    assert convert(dict(weights), "xctdiff-encoder", "--groups", str(groups)).returncode == 0
    network = load_part(tmp_path / "out")
    with torch.no_grad():
        found, regressed = network.condition(image), network(image)[0]
    assert found.embedding is None
    assert found.spatial.shape == (1, 8, 8, 8, 8)
    assert (found.spatial - condition).abs().max() < 1e-5
    assert regressed.shape == (1, 1, 32, 32, 32)
    assert (regressed - volume).abs().max() < 1e-5


def test_a_first_convolution_of_another_width_than_the_first_level_fits(
    convert: Convert, tmp_path: Path
) -> None:
    """A ch_mult that does not begin with 1."""
    weights, volume = Seeded(4), torch.rand(1, 1, 8, 8, 8)
    latents = vqgan_encode(weights, volume, CHANNELS, BLOCKS, GROUPS, first=8)
    vqgan_decode(weights, latents, CHANNELS, BLOCKS, GROUPS, CODES)
    assert convert(dict(weights), "xctdiff-vqgan", "--groups", str(GROUPS)).returncode == 0
    with torch.no_grad():
        assert (load_part(tmp_path / "out").encode(volume) - latents).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["vqgan", "encoder"])
def test_codes_remapped_for_a_transformer_do_not_change_a_network(
    convert: Convert, tmp_path: Path, kind: str
) -> None:
    weights, image = Seeded(2), torch.rand(1, 1, 16, 16)
    if kind == "vqgan":
        weights, _, _ = vqgan(torch.rand(1, 1, 8, 8, 8))
    else:
        encoder_regression(weights, encoder_condition(weights, image, 32, (1, 4), depth=8), 32, CODES)
    groups = str(GROUPS if kind == "vqgan" else 16)
    state = weights | {"quantize.used": torch.arange(3)}
    assert convert(state, f"xctdiff-{kind}", "--groups", groups).returncode == 0
    kept = load_part(tmp_path / "out").quantize.embedding.weight
    assert torch.equal(kept, weights["quantize.embedding.weight"])


def unet_weights() -> Tensors:
    """X-ray2CTPA's tensors with 8 + 8 channels in, 8 out and no embedding: XctDiff's of width 32."""
    weights = random_weights(seed=5)
    generator = torch.Generator().manual_seed(6)
    del weights["null_cond_emb"]
    weights["init_conv.weight"] = torch.randn(32, 16, 1, 7, 7, generator=generator) / 28
    weights["final_conv.1.weight"] = torch.randn(8, 32, 1, 1, 1, generator=generator) / 6
    weights["final_conv.1.bias"] = torch.randn(8, generator=generator)
    return {
        n: w[:, :128].contiguous() if n.endswith("mlp.1.weight") and w.shape[1] == 640 else w
        for n, w in weights.items()
    }


def test_a_denoiser_gives_the_released_noise(convert: Convert, tmp_path: Path) -> None:
    weights = unet_weights()
    generator = torch.Generator().manual_seed(7)
    sample, condition = (torch.randn(2, 8, 6, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.tensor([999, 21])
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in weights.items()}
    others = {"betas": torch.zeros(4), "first_stage_model.quant_conv.weight": torch.ones(1)}
    assert convert(state | others, "xctdiff-denoiser").returncode == 0
    network = load_part(tmp_path / "out")
    with torch.no_grad():
        expected = released_unet(weights, torch.cat([sample, condition], 1), timestep, torch.zeros(2, 0))
        found = network(sample, timestep, Conditioning(spatial=condition))
        assert torch.equal(network(sample, timestep, condition), found)
        with pytest.raises(ValueError, match="spatial features"):
            network(sample, timestep, Conditioning())
    assert (found - expected).abs().max() < 1e-4


def test_averaged_weights_are_taken_unless_the_last_ones_are_asked_for(
    convert: Convert, tmp_path: Path
) -> None:
    weights = unet_weights()
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in weights.items()}
    averaged = {
        n: w + 1 for n, w in weights.items() if not n.endswith("freqs")
    }  # frequencies are not trained
    state |= {"model_ema." + f"diffusion_model.{n}".replace(".", ""): w for n, w in averaged.items()}
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
    assert "ema of last.ckpt" in convert(state, "xctdiff-denoiser").stdout
    network = load_part(tmp_path / "out")
    assert torch.equal(network.init_conv.bias, weights["init_conv.bias"] + 1)
    (tmp_path / "out").rename(tmp_path / "ema")
    assert convert(state, "xctdiff-denoiser", "--weights", "model").returncode == 0
    assert torch.equal(load_part(tmp_path / "out").init_conv.bias, weights["init_conv.bias"])


@pytest.fixture
def diffusion_stage() -> Tensors:
    """The state dict of the diffusion stage, with the networks of the first two stages."""
    weights, _, _ = vqgan(torch.rand(1, 1, 8, 8, 8))
    encoder = Seeded(2)
    condition = encoder_condition(encoder, torch.rand(1, 1, 32, 32), 64, (1, 4), depth=16)
    encoder_regression(encoder, condition, 64, CODES)
    state = {f"first_stage_model.{n}": t for n, t in weights.items()}
    state |= {f"cond_stage_model.{n}": t for n, t in encoder.items()}
    return state | {f"model.diffusion_model.{n}": t for n, t in unet_weights().items()}


def test_the_three_networks_become_a_bundle_that_generates(
    convert: Convert, tmp_path: Path, diffusion_stage: Tensors
) -> None:
    done = convert(diffusion_stage, "xctdiff")
    assert done.returncode == 0, done.stderr
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    words = ["generate", str(tmp_path / "noise.png"), "--bundle", str(tmp_path / "out"), "--force"]
    assert main([*words, "--steps", "3", "--out", str(tmp_path / "result")]) == 0
    record = json.loads((tmp_path / "result" / "result.json").read_text())
    assert record["geometry"]["shape"] == [64, 64, 64]
    assert record["geometry"]["spacing_mm"] == pytest.approx([5, 5, 5])  # a cube of 320 mm
    assert record["pe"]["probability"] is None
    assert record["pe"]["positive"] is None


def test_the_bundle_samples_by_the_releases_ddim_and_again_after_a_swap(
    convert: Convert, tmp_path: Path, diffusion_stage: Tensors
) -> None:
    assert convert(diffusion_stage, "xctdiff").returncode == 0
    pipe = XRay2CTPAPipeline.from_pretrained(tmp_path / "out")
    pipe.set_scheduler("dpm++")
    pipe.set_scheduler("ddim")
    pipe.scheduler.set_timesteps(50)
    assert pipe.scheduler.timesteps[[0, 1, -1]].tolist() == [981, 961, 1]
    assert float(pipe.scheduler.alphas_cumprod[-1]) == pytest.approx(0.0022, abs=1e-4)


def test_the_bundle_turns_radiographs_and_volumes_to_the_releases_order_of_axes(
    convert: Convert, tmp_path: Path, diffusion_stage: Tensors
) -> None:
    """The release reads radiographs transposed and turned upside down, and its volumes are (x, y, z)."""
    assert convert(diffusion_stage, "xctdiff").returncode == 0
    pipe = XRay2CTPAPipeline.from_pretrained(tmp_path / "out")
    encoder, codec = Seeded(2), Seeded(1)
    for seeded, prefix in ((encoder, "cond_stage_model."), (codec, "first_stage_model.")):
        seeded.update({n.removeprefix(prefix): t for n, t in diffusion_stage.items() if n.startswith(prefix)})
    generator = torch.Generator().manual_seed(8)
    image, latents = (
        torch.rand(1, 1, 32, 32, generator=generator),
        torch.randn(1, 8, 4, 6, 8, generator=generator),
    )
    expected = encoder_condition(encoder, image.transpose(2, 3).flip(3), 64, (1, 4), 16, groups=32)
    with torch.no_grad():
        found = pipe.condition(image).spatial
        decoded = pipe.autoencoder.decode(latents)
    assert (found - expected.transpose(2, 4)).abs().max() < 1e-5
    volume = vqgan_decode(codec, latents.transpose(2, 4), CHANNELS, BLOCKS, 8, CODES)
    assert (decoded - volume.transpose(2, 4)).abs().max() < 1e-5
    assert pipe.denoiser.config["released_axes"]


def test_the_bundle_takes_scale_and_noise_schedule_from_the_checkpoint_that_states_them(
    convert: Convert, tmp_path: Path, diffusion_stage: Tensors
) -> None:
    def scale_and_betas(*more: str) -> tuple[float, torch.Tensor]:
        assert convert(diffusion_stage, "xctdiff", *more).returncode == 0
        pipe = XRay2CTPAPipeline.from_pretrained(tmp_path / "out")
        (tmp_path / "out").rename(tmp_path / f"done-{len(list(tmp_path.iterdir()))}")
        return 1 / pipe.bundle.latents.std[0], pipe.scheduler.betas

    scale, published = scale_and_betas()
    assert scale == pytest.approx(0.6)
    assert float(published[-1]) == pytest.approx(0.0125)
    diffusion_stage["betas"] = published.clone()
    diffusion_stage["scale_factor"] = torch.tensor(0.25)
    scale, betas = scale_and_betas()
    assert scale == pytest.approx(0.25)
    assert torch.equal(betas, published)
    diffusion_stage["betas"] = torch.linspace(1e-4, 2e-2, 500)
    scale, betas = scale_and_betas("--latent-scale", "0.5")
    assert scale == pytest.approx(0.5)
    assert torch.equal(betas, diffusion_stage["betas"])


def test_the_bundle_takes_the_groups_of_its_three_networks(
    convert: Convert, tmp_path: Path, diffusion_stage: Tensors
) -> None:
    assert convert(diffusion_stage, "xctdiff", "--groups", "4", "16", "8").returncode == 0
    pipe = XRay2CTPAPipeline.from_pretrained(tmp_path / "out")
    assert [part.config["groups"] for part in (pipe.autoencoder, pipe.xray_encoder, pipe.denoiser)] == [
        4,
        16,
        8,
    ]
    (tmp_path / "out").rename(tmp_path / "done")
    assert_refused(convert(diffusion_stage, "xctdiff", "--groups", "4"), 2, "--groups 8 32 8")
    assert_refused(convert(diffusion_stage, "xctdiff-vqgan", "--groups", "4", "4"), 2, "one number of groups")
    assert_refused(convert(diffusion_stage, "xctdiff", "--latent-scale", "0"), 2, "positive --latent-scale")
    assert_refused(convert(diffusion_stage, "xctdiff-vqgan", "--latent-scale", "1"), 2, "only for xctdiff")


def test_the_file_of_the_diffusion_stage_holds_all_three_networks(convert: Convert, tmp_path: Path) -> None:
    volume = torch.rand(1, 1, 8, 8, 8)
    weights, latents, _ = vqgan(volume)
    encoder, image = Seeded(2), torch.rand(1, 1, 16, 16)
    condition = encoder_condition(encoder, image, 32, (1, 4), depth=8)
    encoder_regression(encoder, condition, 32, CODES)
    state: Tensors = {f"first_stage_model.{n}": t for n, t in weights.items()}
    state |= {f"cond_stage_model.{n}": t for n, t in encoder.items()}
    state |= {f"model.diffusion_model.{n}": t for n, t in unet_weights().items()}
    for kind, groups in (("vqgan", GROUPS), ("encoder", 16), ("denoiser", 8)):
        assert convert(state, f"xctdiff-{kind}", "--groups", str(groups)).returncode == 0
        (tmp_path / "out").rename(tmp_path / kind)
    with torch.no_grad():
        assert (load_part(tmp_path / "vqgan").encode(volume) - latents).abs().max() < 1e-5
        found = load_part(tmp_path / "encoder").condition(image).spatial
        assert (found - condition).abs().max() < 1e-5
    assert load_part(tmp_path / "denoiser").config["spatial_channels"] == 8


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_names_as_parallel_and_compiled_networks_give_them_are_taken(
    convert: Convert, tmp_path: Path, prefix: str
) -> None:
    volume = torch.rand(1, 1, 8, 8, 8)
    weights, latents, _ = vqgan(volume)
    state = {prefix + name: tensor for name, tensor in weights.items()}
    assert convert(state, "xctdiff-vqgan", "--groups", str(GROUPS)).returncode == 0
    with torch.no_grad():
        assert (load_part(tmp_path / "out").encode(volume) - latents).abs().max() < 1e-5


def test_a_checkpoint_of_something_else_is_refused_by_name(convert: Convert) -> None:
    weights, _, _ = vqgan(torch.rand(1, 1, 8, 8, 8))
    assert_refused(convert(dict(weights), "xctdiff-encoder"), 3, "Expected encoder.mid.mlp.fc1.weight")
    groups = ("--groups", str(GROUPS))
    for name in ("encoder.down.1.downsample.conv.weight", "encoder.down.1.downsample.conv.bias"):
        del weights[name]
    assert_refused(convert(dict(weights), "xctdiff-vqgan", *groups), 3, "no convolutions")
    weights, _, _ = vqgan(torch.rand(1, 1, 8, 8, 8))
    wrong = weights | {"encoder.extra": torch.ones(1)}
    assert_refused(convert(wrong, "xctdiff-vqgan", *groups), 3, "unexpected: encoder.extra")
    assert_refused(
        convert(dict(weights), "xctdiff-vqgan", "--weights", "ema", *groups), 3, "averaged weights"
    )
    assert_refused(convert(dict(weights), "xctdiff-vqgan", "--groups", "5"), 3, "divisible by groups=5")
    assert_refused(convert({"a": "text"}, "xctdiff-vqgan"), 3, "no tensor (names: a)")
    assert_refused(convert({}, "upstream-classifier", "--groups", "8"), 2, "only for a denoiser")
