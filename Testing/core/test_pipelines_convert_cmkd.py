"""`xray2ctpa convert cmkd-prior`: the trainer's file in, the same prior out, with what it is sampled by."""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_runs import assert_refused, names
from diffusers import DDPMScheduler
from packaging.version import parse
from prior_weights import DIM, random_prior

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.diffusion.embedding_sampling import prior_scheduler, sample_embeddings
from xray2ctpa_core.diffusion.latent_scaling import load_scaling
from xray2ctpa_core.models.denoisers.prior import EmbeddingPrior
from xray2ctpa_core.pipelines.loading import load_part

LAYER = "causal_transformer.layers.1.0"


class LinearWarmup:
    """Stands for the object that the trainer pickles beside the tensors."""

    def __init__(self) -> None:
        self.last_step, self.warmup_params = 7, [{"warmup_period": 50}]


LinearWarmup.__module__ = "pytorch_warmup.base"


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def trainer_file(prior: EmbeddingPrior, ema: EmbeddingPrior | None = None) -> dict[str, Any]:
    """What the release's trainer saves."""

    def weights(network: EmbeddingPrior) -> dict[str, torch.Tensor]:
        scheduler = prior_scheduler()
        return {
            **{f"net.{name}": tensor.clone() for name, tensor in network.state_dict().items()},
            "noise_scheduler.betas": scheduler.betas,
            "noise_scheduler.alphas_cumprod": scheduler.alphas_cumprod,
            "noise_scheduler.p2_loss_weight": torch.ones(64),
        }

    content = {"model": weights(prior), "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "scheduler": {}}
    content |= {"warmup_scheduler": LinearWarmup(), "version": parse("1.15.6"), "step": 13_000}
    return content if ema is None else content | {"ema": {"step": torch.ones(1)}, "ema_model": weights(ema)}


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Saves ``content`` and converts it to the folder out; reading, the pickled class is not to be found."""
    import sys
    import types

    module = types.ModuleType("pytorch_warmup.base")
    module.LinearWarmup = LinearWarmup  # type: ignore[attr-defined]

    def run(content: Any, *more: str) -> subprocess.CompletedProcess[str]:
        checkpoint = tmp_path / "prior.pth"
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "pytorch_warmup", types.ModuleType("pytorch_warmup"))
            patch.setitem(sys.modules, "pytorch_warmup.base", module)
            torch.save(content, checkpoint)
        code = main(["convert", "cmkd-prior", str(checkpoint), str(tmp_path / "out"), *more])
        captured = capsys.readouterr()
        return subprocess.CompletedProcess([], code, captured.out, captured.err)

    return run


def assert_computes(folder: Path, prior: EmbeddingPrior) -> None:
    network = load_part(folder)
    assert isinstance(network, EmbeddingPrior)
    assert not network.training
    given = torch.randn(2, DIM), torch.tensor([63, 0]), torch.randn(2, DIM)
    with torch.no_grad():
        torch.testing.assert_close(network(*given), prior(*given))


def test_a_trainers_file_gives_its_averaged_prior_its_schedule_and_its_scaling(convert, tmp_path) -> None:
    ema = random_prior(seed=1)
    run = convert(trainer_file(random_prior(), ema))
    assert run.returncode == 0, run.stderr
    assert_computes(tmp_path / "out", ema)
    assert names(tmp_path / "out") == [
        "config.json", "conversion.json", "diffusion_pytorch_model.safetensors", "latent_scaling.json",
        "scheduler_config.json",
    ]  # fmt: skip
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "out")
    assert (scheduler.alphas_cumprod - prior_scheduler().alphas_cumprod).abs().max() < 1e-6
    assert (len(scheduler.betas), scheduler.config["prediction_type"]) == (64, "sample")
    scaling = load_scaling(tmp_path / "out")
    scaled = scaling.apply(torch.ones(1, DIM))
    assert scaled[0, 0].item() == pytest.approx(DIM**0.5)
    assert torch.allclose(scaling.invert(scaled), torch.ones(1, DIM))
    said = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert said["weights"] == "ema"
    assert "net.learned_query" in said["keys"]
    assert not any(key.startswith("noise_scheduler.") for key in said["keys"])


def test_the_last_weights_come_on_request_or_where_there_are_no_others(convert, tmp_path) -> None:
    prior = random_prior(seed=2)
    assert convert(trainer_file(prior, random_prior()), "--weights", "model").returncode == 0
    assert_computes(tmp_path / "out", prior)
    (tmp_path / "out").rename(tmp_path / "first")
    assert_refused(convert(trainer_file(prior), "--weights", "ema"), 3, "'ema'", "got model")
    assert convert(trainer_file(prior)).returncode == 0


@pytest.mark.parametrize(
    "prefix", ["", "net.", "module.net.", "_orig_mod.", "model.net.", "module.prior.", "a.net."]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_bare_state_dict_is_taken_too_and_what_lightning_or_parallel_networks_wrap_around_it(
    convert, tmp_path, prefix: str, wrapped: bool
) -> None:
    prior = random_prior(seed=3)
    tensors = {prefix + name: t for name, t in prior.state_dict().items()}
    assert convert({"state_dict": tensors, "epoch": 3} if wrapped else tensors).returncode == 0
    assert_computes(tmp_path / "out", prior)


def test_a_prior_among_other_networks_is_found_with_its_schedule(convert, tmp_path) -> None:
    prior = random_prior(seed=4)
    tensors = {f"prior.net.{name}": t for name, t in prior.state_dict().items()}
    tensors |= {"encoder.net.weight": torch.ones(3), "prior.noise_scheduler.betas": torch.full((5,), 0.1)}
    assert convert({"state_dict": tensors, "hyper_parameters": {"lr": 1e-4}}).returncode == 0
    assert_computes(tmp_path / "out", prior)
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "out")
    assert torch.allclose(scheduler.betas, torch.full((5,), 0.1))


def test_of_an_average_and_its_origin_in_one_state_dict_the_average_is_taken(convert, tmp_path) -> None:
    average = random_prior(seed=5)
    copies = {"ema_model": average, "online_model": random_prior(seed=6)}
    tensors = {f"{copy}.net.{n}": t for copy, prior in copies.items() for n, t in prior.state_dict().items()}
    assert convert(tensors | {"initted": torch.tensor(True)}).returncode == 0
    assert_computes(tmp_path / "out", average)
    (tmp_path / "out").rename(tmp_path / "first")
    unclear = {name.replace("ema_model", "first"): tensor for name, tensor in tensors.items()}
    assert_refused(convert(unclear), 3, "one prior", "first.net., online_model.net.")


def test_pickled_hyper_parameters_are_refused_by_name(convert, tmp_path) -> None:
    tensors = {f"net.{name}": t for name, t in random_prior().state_dict().items()}
    settings = argparse.Namespace(lr=1e-4)
    run = convert({"state_dict": tensors, "hyper_parameters": settings})
    assert_refused(run, 3, "argparse.Namespace", "was not loaded", "torch.save")


@pytest.mark.parametrize(
    "changes",
    [
        {"normformer": False, "rotary_emb": False},
        {"norm_in": True, "norm_out": False, "final_proj": False},
        {"num_time_embeds": 2, "num_image_embeds": 3, "num_text_embeds": 2},
        {"heads": 5, "dim_head": 16, "depth": 3, "max_text_len": 0, "num_timesteps": 64, "ff_mult": 1.5},
        {"num_timesteps": None},
        {"num_timesteps": None, "num_time_embeds": 2},
    ],
    ids=["fewer-norms", "other-ends", "several-tokens", "other-sizes", "computed-time", "two-computed-times"],
)
def test_any_configuration_of_the_constructor_is_read_off_the_tensors(convert, tmp_path, changes) -> None:
    prior = random_prior(seed=4, **changes)
    run = convert(trainer_file(prior))
    assert run.returncode == 0, run.stderr
    assert_computes(tmp_path / "out", prior)


def test_betas_of_another_schedule_are_kept(convert, tmp_path) -> None:
    content = trainer_file(random_prior())
    betas = torch.linspace(0.001, 0.2, 32)
    content["model"]["noise_scheduler.betas"] = betas
    assert convert(content).returncode == 0
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "out")
    assert torch.allclose(scheduler.betas, betas, atol=1e-7)


def test_a_schedule_that_ends_in_noise_alone_is_kept_and_its_samples_are_finite(convert, tmp_path) -> None:
    """The schedule "jsd" of the published constructor: betas 1/T to 1."""
    content = trainer_file(random_prior())
    betas = 1 / torch.linspace(64, 1, 64)
    content["model"]["noise_scheduler.betas"] = betas
    assert convert(content).returncode == 0
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "out")
    assert torch.allclose(scheduler.betas, betas, atol=1e-7)
    assert scheduler.alphas_cumprod[-1] == 0
    generator = torch.Generator().manual_seed(0)
    drawn = sample_embeddings(load_part(tmp_path / "out"), scheduler, torch.randn(2, DIM), generator)
    assert drawn.isfinite().all()


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("net.learned_query", None, ["missing: learned_query"]),
        (f"net.{LAYER}.to_q.weight", None, [f"missing: net.{LAYER}.to_q.weight"]),
        ("net.extra", torch.ones(1), ["unexpected: net.extra"]),
        ("net.causal_transformer.norm.g", torch.ones(3), ["transformer.norm.g needs (24,), got (3,)"]),
        ("net.null_image_embed", torch.full((1, DIM), torch.nan), ["not finite: net.null_image_embed"]),
        ("net.causal_transformer.layers.0.0.rotary_emb.freqs", torch.ones(16), ["layers share one"]),
        ("noise_scheduler.betas", torch.full((64,), 2.0), ["between 0 and 1"]),
    ],
)  # fmt: skip
def test_what_is_no_prior_of_the_release_is_refused_by_name(convert, tmp_path, name, tensor, says) -> None:
    content = trainer_file(random_prior())
    content["model"].pop(name, None)
    if tensor is not None:
        content["model"][name] = tensor
    assert_refused(convert(content), 3, *says)
    assert names(tmp_path) == ["prior.pth"]


@pytest.mark.parametrize("place", ["version", "warmup_scheduler", "model"])
def test_other_objects_are_refused_and_their_code_is_not_run(convert, tmp_path, place: str) -> None:
    content = trainer_file(random_prior())
    content[place] = Payload(tmp_path / "ran")
    assert_refused(convert(content), 3, "could run code")
    assert not (tmp_path / "ran").exists()


def test_a_call_of_a_skipped_package_is_refused(convert, tmp_path) -> None:
    class Calls:
        def __reduce__(self) -> tuple[Any, ...]:
            return parse, ("1.0",)

    assert_refused(convert(trainer_file(random_prior()) | {"version": Calls()}), 3, "could run code")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no checkpoint at all"])
def test_damaged_files_are_refused(convert, tmp_path, capsys, content: bytes) -> None:
    (tmp_path / "prior.pth").write_bytes(content)
    assert main(["convert", "cmkd-prior", str(tmp_path / "prior.pth"), str(tmp_path / "out")]) == 3
    assert "prior.pth" in capsys.readouterr().err
    assert main(["convert", "cmkd-prior", str(tmp_path / "none.pth"), str(tmp_path / "out")]) == 2
