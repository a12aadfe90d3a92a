"""`xray2ctpa convert`: released checkpoints in, the same network out, everything else refused by name."""

import json
import pathlib
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import released_densenet
import torch
from cli_runs import assert_refused, names
from safetensors.torch import load_file, save_file

from xray2ctpa_core.benchmark.released_reference import (
    blocks,
    depth_attentions,
    random_weights,
    released_unet,
)
from xray2ctpa_core.cli.main import main
from xray2ctpa_core.errors import BundleError
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.pipelines.loading import load_denoiser

Tensors = dict[str, torch.Tensor]
Convert = Callable[..., subprocess.CompletedProcess[str]]
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def plain() -> Tensors:
    return random_weights(seed=3)


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    """Saves ``content`` as a checkpoint and converts it to the folder out."""

    def run(content: Any, *more: str, kind: str = "upstream-denoiser") -> subprocess.CompletedProcess[str]:
        checkpoint = tmp_path / "model-1.pt"
        if content is not None:
            torch.save(content, checkpoint)
        code = main(["convert", kind, str(checkpoint), str(tmp_path / "out"), *more])
        captured = capsys.readouterr()
        return subprocess.CompletedProcess([], code, captured.out, captured.err)

    return run


def lora_layers() -> list[str]:
    """The 40 linear layers that the release injects its updates into."""
    attentions = [name for name, _ in depth_attentions()] + ["mid_spatial_attn"]
    return [f"{name}.mlp.1" for name, _, _ in blocks()] + [
        f"{name}.fn.fn.fn.{part}" for name in attentions for part in ("to_qkv", "to_out")
    ]


def trainer_file(**weights: Tensors) -> dict[str, Any]:
    """What the release's trainer saves: the denoiser among networks and buffers that are not its own."""
    others = {
        "betas": torch.zeros(3),
        "vae.x": torch.ones(2),
        "classifier.base_model.classifier.bias": torch.ones(1),
    }
    sets = {
        name: others | {f"denoise_fn.{key}": tensor for key, tensor in tensors.items()}
        for name, tensors in weights.items()
    }
    return {"step": 7, **sets, "scaler": {"scale": 65536.0, "growth_factor": 2.0}}


def with_lora(plain: Tensors, layers: list[str], at_the_end: bool) -> tuple[Tensors, Tensors]:
    """A state dict with LoRA updates in ``layers``, and the same network with the updates applied.

    ``at_the_end``: the updates' tensors come after all others, as where they are injected into a network
    that was loaded before; otherwise beside their layer's weight.
    """
    generator = torch.Generator().manual_seed(4)
    carried: Tensors = {}
    updates: Tensors = {}
    applied = dict(plain)
    for name, tensor in plain.items():
        layer, _, part = name.rpartition(".")
        if layer not in layers:
            carried[name] = tensor
            continue
        carried[f"{layer}.linear.{part}"] = tensor
        if part == "weight":
            up = 0.1 * torch.randn(len(tensor), 4, generator=generator)
            down = 0.25 * torch.randn(4, tensor.shape[1], generator=generator)
            into = updates if at_the_end else carried
            into |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
            update = torch.einsum("or,ri->oi", up, down)
            assert update.abs().mean() > 0.01
            applied[name] = tensor + update
    return carried | updates, applied


def assert_computes(folder: Path, weights: Tensors) -> None:
    """What lies in ``folder`` gives the released network's output with ``weights``."""
    network = load_denoiser(folder)
    assert not network.training
    torch.manual_seed(5)
    given = (
        torch.randn(1, 4, 4, 8, 8),
        torch.tensor([640]),
        torch.nn.functional.normalize(torch.randn(1, 512)),
    )
    with torch.no_grad():
        expected = released_unet(weights, *given)
        assert (network(*given) - expected).abs().max() < 1e-4


def test_a_trainers_checkpoint_gives_its_averaged_weights(
    convert: Convert, plain: Tensors, tmp_path: Path
) -> None:
    run = convert(trainer_file(model={"init_conv.bias": torch.ones(32)}, ema=plain))
    assert run.returncode == 0, run.stderr
    assert "12,007,252 parameters" in run.stdout
    assert names(tmp_path) == ["model-1.pt", "out"]
    assert names(tmp_path / "out") == ["config.json", "conversion.json", WEIGHTS_FILE]
    assert_computes(tmp_path / "out", plain)
    said = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert said["source"] == "model-1.pt"
    assert said["sha256"] == sha256((tmp_path / "model-1.pt").read_bytes()).hexdigest()
    assert said["weights"] == "ema"
    assert said["merged_lora"] == []
    assert len(said["keys"]) == 301
    assert "denoise_fn.init_conv.weight" in said["keys"]


def test_the_last_weights_come_on_request_or_where_there_are_no_others(
    convert: Convert, plain: Tensors, tmp_path: Path
) -> None:
    assert convert(trainer_file(model=plain, ema={}), "--weights", "model").returncode == 0
    assert_computes(tmp_path / "out", plain)
    run = convert(trainer_file(model=plain), "--weights", "ema")
    assert_refused(run, 2, "which exists")
    (tmp_path / "out").rename(tmp_path / "first")
    assert_refused(convert(None, "--weights", "ema"), 3, "'ema'", "got model")
    assert convert(None).returncode == 0
    assert_computes(tmp_path / "out", plain)


def test_a_bare_state_dict_in_half_precision_is_taken_too(
    convert: Convert, plain: Tensors, tmp_path: Path
) -> None:
    halved = {name: tensor.half() for name, tensor in plain.items()}
    assert convert(halved).returncode == 0
    assert_computes(tmp_path / "out", {name: tensor.float() for name, tensor in halved.items()})
    assert load_file(tmp_path / "out" / WEIGHTS_FILE)["init_conv.weight"].dtype == torch.float32


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("every", [1, 3], ids=["all-layers", "some-layers"])
def test_lora_updates_are_merged(
    convert: Convert, plain: Tensors, tmp_path: Path, at_the_end: bool, every: int
) -> None:
    layers = lora_layers()[::every]
    carried, applied = with_lora(plain, layers, at_the_end)
    assert len(lora_layers()) == 40
    run = convert(trainer_file(ema=carried))
    assert run.returncode == 0, run.stderr
    assert f"{len(layers)} LoRA layers merged" in run.stdout
    assert set(load_file(tmp_path / "out" / WEIGHTS_FILE)) == set(plain)
    assert_computes(tmp_path / "out", applied)
    said = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert said["merged_lora"] == sorted(f"denoise_fn.{layer}" for layer in layers)


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("head_dim", [16, 32])
@pytest.mark.parametrize("embedding", [0, 24])
def test_every_choice_of_the_published_constructor_shows_in_the_tensors(
    convert: Convert, tmp_path: Path, kernel: int, linear: bool, head_dim: int, embedding: int
) -> None:
    """init_kernel_size, use_sparse_linear_attn, attn_dim_head, cond_dim None."""
    weights = random_weights(
        seed=8, width=16, multipliers=(1, 3), latent_channels=3, heads=2, embedding=embedding
    )
    if not embedding:
        del weights["null_cond_emb"]
    margin = (7 - kernel) // 2
    weights["init_conv.weight"] = weights["init_conv.weight"][..., margin : 7 - margin, margin : 7 - margin]
    if not linear:
        weights = {name: w for name, w in weights.items() if name.split(".")[2:3] != ["2"]}
    of_depth = {name: w for name, w in weights.items() if "fn.fn.fn" in name and "spatial" not in name}
    for name, tensor in of_depth.items():
        part = name.rpartition("fn.fn.fn.")[2]
        if part == "to_qkv.weight":
            weights[name] = tensor[: 3 * 2 * head_dim]
        elif part == "to_out.weight":
            weights[name] = tensor[:, : 2 * head_dim]
        elif part == "rotary_emb.freqs":
            weights[name] = tensor[: head_dim // 2]
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    assert convert(trainer_file(ema=weights)).returncode == 0
    network = load_denoiser(tmp_path / "out")
    generator = torch.Generator().manual_seed(9)
    sample, given = (
        torch.randn(2, 3, 5, 4, 4, generator=generator),
        torch.randn(2, embedding, generator=generator),
    )
    timestep = torch.tensor([3, 990])
    with torch.no_grad():
        expected = released_unet(weights, sample, timestep, given)
        assert (network(sample, timestep, given) - expected).abs().max() < 1e-4


def test_a_denoiser_of_all_tokens_projects_them_and_takes_its_null_embedding_as_it_is(
    convert: Convert, tmp_path: Path
) -> None:
    """medclip=False; the release's 257 x 1024 tokens to 1024, here 3 x 5 to 24."""
    weights = random_weights(seed=8, width=16, multipliers=(1, 3), latent_channels=3, heads=2, embedding=24)
    generator = torch.Generator().manual_seed(10)
    weights["fc_cond.weight"] = torch.randn(24, 15, generator=generator) / 4
    weights["fc_cond.bias"] = torch.randn(24, generator=generator)
    assert convert(trainer_file(ema=weights)).returncode == 0
    network = load_denoiser(tmp_path / "out")
    sample, tokens = (torch.randn(2, *size, generator=generator) for size in ((3, 5, 4, 4), (3, 5)))
    timestep = torch.tensor([3, 990])
    embedding = torch.stack([weights["fc_cond.weight"] @ t.flatten() for t in tokens])
    embedding = embedding + weights["fc_cond.bias"]
    with torch.no_grad():
        expected = released_unet(weights, sample, timestep, embedding)
        assert (network(sample, timestep, tokens) - expected).abs().max() < 1e-4
        null = released_unet(weights, sample, timestep, weights["null_cond_emb"].expand(2, -1))
        assert (network(sample, timestep, network.null_conditioning(2)) - null).abs().max() < 1e-4


LAYER = "downs.1.0.mlp.1"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"init_conv.bias": None}, ["missing: denoise_fn.init_conv.bias"]),
        ({"downs.9.0.mlp.1.weight": torch.ones(1)}, ["unexpected: denoise_fn.downs.9.0.mlp.1.weight"]),
        (
            {"init_conv.weight": torch.ones(32, 8, 1, 7, 7)},
            ["as many channels read by denoise_fn.init_conv as are written, got 4 more"],
        ),
        ({"mid_block1.mlp.1.bias": torch.full((512,), torch.nan)}, ["not finite: denoise_fn.mid_block1.mlp"]),
        ({"downs.2.3.fn.fn.fn.rotary_emb.freqs": torch.ones(16)}, ["where layers share one", "rotary_emb"]),
        ({f"{LAYER}.lora_up.weight": torch.ones(128, 4)}, ["missing", f"{LAYER}.linear.weight"]),
        (
            {
                f"{LAYER}.linear.weight": torch.ones(128, 640),
                f"{LAYER}.lora_up.weight": torch.ones(128, 4),
                f"{LAYER}.lora_down.weight": torch.ones(4, 640),
            },
            ["unexpected", f"denoise_fn.{LAYER}.weight"],
        ),
        (
            {
                f"{LAYER}.weight": None,
                f"{LAYER}.bias": None,
                f"{LAYER}.linear.bias": torch.ones(128),
                f"{LAYER}.linear.weight": torch.ones(128, 640),
                f"{LAYER}.lora_up.weight": torch.ones(128, 4),
                f"{LAYER}.lora_down.weight": torch.ones(3, 640),
            },
            [f"denoise_fn.{LAYER}", "(128, 4)", "(3, 640)"],
        ),
    ],
    ids=["missing", "unexpected", "shape", "nan", "rotary", "half-a-lora", "weight-twice", "lora-ranks"],
)
def test_a_denoiser_that_is_not_the_released_one_is_refused_by_name(
    convert: Convert, plain: Tensors, tmp_path: Path, change: dict[str, torch.Tensor | None], says: list[str]
) -> None:
    changed = {name: tensor for name, tensor in (plain | change).items() if tensor is not None}
    assert_refused(convert(trainer_file(ema=changed)), 3, *says)
    assert names(tmp_path) == ["model-1.pt"]


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pathlib.Path.touch, (pathlib.Path("touched"),))  # type: ignore[return-value]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_could_run_code_is_not_loaded(
    convert: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"ema": Payload()}, "model-1.pt", _use_new_zipfile_serialization=zipped)
    assert_refused(convert(None), 3, "model-1.pt", "could run code")
    assert names(tmp_path) == ["model-1.pt"]


def test_a_file_that_is_torn_foreign_or_absent_is_refused(
    convert: Convert, plain: Tensors, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model-1.pt"
    assert_refused(convert(None), 2, "model-1.pt", "Check the path")
    torch.save({"ema": {"init_conv.bias": torch.ones(4096)}}, checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    assert_refused(convert(None), 3, "truncated or damaged")
    checkpoint.write_text("no checkpoint")
    assert_refused(convert(None), 3, "model-1.pt")
    assert_refused(convert([torch.ones(2)]), 3, "dictionary of tensors, got list")
    assert_refused(convert({"epoch": 3, "x": torch.ones(2)}), 3, "no tensor", "epoch")
    stranger = trainer_file(ema=plain)
    stranger["ema"]["mystery.weight"] = torch.ones(2)
    assert_refused(convert(stranger), 3, "unexpected: mystery.weight")
    assert_refused(convert({}, kind="upstream-vae"), 2, "upstream-denoiser")
    assert names(tmp_path) == ["model-1.pt"]


def test_a_full_disk_leaves_nothing_behind(
    convert: Convert, plain: Tensors, tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(plain, tmp_path / "model-1.pt")
    assert main(["convert", "upstream-denoiser", str(tmp_path / "model-1.pt"), str(small_disk / "out")]) == 2
    assert "free disk" in capsys.readouterr().err
    assert names(small_disk) == []


@pytest.mark.parametrize("carrier", ["bare", "trainer"])
def test_the_released_classifier_gives_the_same_logits(
    convert: Convert, tmp_path: Path, carrier: str
) -> None:
    weights = released_densenet.random_weights(seed=6)
    content: dict[str, Any] = weights
    if carrier == "trainer":
        parts = {f"classifier.{name}": tensor for name, tensor in weights.items()}
        content = {"step": 1, "model": parts | {"denoise_fn.init_conv.bias": torch.ones(32)}}
    run = convert(content, kind="upstream-classifier")
    assert run.returncode == 0, run.stderr
    classifier = PEClassifier.from_pretrained(tmp_path / "out", use_safetensors=True).eval()
    assert sum(parameter.numel() for parameter in classifier.parameters()) == 11_309_505
    torch.manual_seed(7)
    latents = torch.randn(2, 4, 32, 32, 32)
    with torch.no_grad():
        logits = classifier(latents)
        expected = released_densenet.released_classifier(weights, latents)
    assert (expected[0] - expected[1]).abs() > 0.01
    assert torch.allclose(logits, expected, atol=1e-4, rtol=1e-4)


def test_a_classifier_that_is_not_the_released_one_is_refused_by_its_own_names(
    convert: Convert, tmp_path: Path
) -> None:
    weights = released_densenet.random_weights(seed=6)
    weights["base_model.fc.weight"] = weights.pop("base_model.classifier.weight")
    name = "base_model.features.denseblock4.denselayer16.conv2.weight"
    weights[name] = weights[name][:16]
    says = [
        "missing: base_model.classifier.weight",
        "unexpected: base_model.fc.weight",
        name,
        "(16, 128, 3, 3, 3)",
    ]
    assert_refused(convert(weights, kind="upstream-classifier"), 3, *says)
    assert names(tmp_path) == ["model-1.pt"]


def test_a_folder_that_is_no_whole_converted_denoiser_is_refused(
    convert: Convert, plain: Tensors, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    with pytest.raises(BundleError, match=r"got .*out without config\.json"):
        load_denoiser(folder)
    assert convert(plain).returncode == 0
    weights, settings = folder / WEIGHTS_FILE, folder / "config.json"
    whole, described = weights.read_bytes(), settings.read_text()
    tensors = load_file(weights)

    save_file(tensors | {"init_conv.bias": torch.ones(16)}, weights)
    with pytest.raises(BundleError, match=r"init_conv.bias needs \(32,\), got \(16,\)"):
        load_denoiser(folder)
    weights.write_bytes(whole[:-100])
    with pytest.raises(BundleError, match="Cannot read"):
        load_denoiser(folder)
    weights.write_bytes(whole)
    changes = {
        "PaperDenoiser": "Other",
        '"width": 32': '"width": 12',
        '"heads"': '"tails"',
        '"groups": 8': '"groups": 0',
    }
    for text in ("{", "[]", *(described.replace(old, new) for old, new in changes.items())):
        assert text != described
        settings.write_text(text)
        with pytest.raises(BundleError, match="describes no network"):
            load_denoiser(folder)
    settings.write_text(described.replace('"width": 32', '"width": 16'))
    with pytest.raises(BundleError, match=r"block1.norm.bias needs \(16,\), got \(32,\)"):
        load_denoiser(folder)
    weights.unlink()
    with pytest.raises(BundleError, match=f"without {WEIGHTS_FILE}"):
        load_denoiser(folder)
