"""The papers' stages: each learns, says what it needs, and leaves what the next one reads."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs the training extra")

from diffusers import AutoencoderKL
from latent_data import write_films, write_latents
from stage_scripts import module_of, stage

from xray2ctpa_core import config as configuration
from xray2ctpa_core.data.latent_cases import LatentCase
from xray2ctpa_core.diffusion.schedulers import papers_schedule
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.codecs.codec import Codec, SliceCodec
from xray2ctpa_core.models.codecs.volume_codec import VolumeCodec
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.models.denoisers.conditioned import (
    ConditionedDenoiser,
    LabelEmbedding,
    guided,
)
from xray2ctpa_core.models.denoisers.lora import merged, with_lora
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.models.encoders.published import FilmEncoder
from xray2ctpa_core.training.arms import prediction_rows
from xray2ctpa_core.training.draws import CaseDraws
from xray2ctpa_core.training.loop import TwoPlayerStage
from xray2ctpa_core.training.losses.denoising import ObjectiveWeights, build_discriminator
from xray2ctpa_core.training.stages.paper_denoiser import (
    AdversarialDenoiserStage,
    GuidanceDropout,
    Judges,
    PaperDenoiserStage,
)
from xray2ctpa_core.volume import Volume, axial_affine

CONFIGS = Path(__file__).resolve().parents[2] / "Training" / "configs"
GRID = (8, 8, 8)
SMALL_ENCODER = {"init_features": 8, "growth_rate": 4, "block_config": (2, 2)}


def small_autoencoder() -> AutoencoderKL:
    torch.manual_seed(3)
    return AutoencoderKL(
        in_channels=16,
        out_channels=16,
        block_out_channels=(16,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        latent_channels=4,
        norm_num_groups=4,
    )


def denoiser() -> PaperDenoiser:
    torch.manual_seed(0)
    return PaperDenoiser(4, 16, 8, (1, 2), 2, 4)


def batch(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "latents": torch.randn(2, 4, *GRID),
        "seed": torch.tensor([7, 8]),
        "label": torch.tensor([0.0, 1.0]),
        "image": torch.rand(2, 1, 32, 32),
    } | more


def small_vqgan() -> VQGAN:
    torch.manual_seed(3)
    return VQGAN((8, 8, 8), (1, 1), 1, 4, 16)


def gradients(weights: ObjectiveWeights, codec: Codec) -> tuple[list[torch.Tensor], list[torch.nn.Module]]:
    """Gradients of the denoiser under the objective, and the networks that must have none."""
    scaling = latent_scaling_of_ones()
    torch.manual_seed(0)
    discriminator = build_discriminator(4, GRID, layers=2, width=8)
    judges = Judges(
        codec,
        perceptual_distance("efficientnet"),
        PEClassifier(4, 8, 4, (2, 2), 0.0),
        scaling,
        discriminator,
    )
    encoder = FilmEncoder("small", SMALL_ENCODER, 16)
    network = ConditionedDenoiser(denoiser(), LabelEmbedding(16))
    made = AdversarialDenoiserStage(
        network, encoder, papers_schedule(), scaling, weights, judges, GuidanceDropout()
    )
    loss, _ = made.loss(network, batch(), torch.Generator())
    loss.backward()
    found = [p.grad for p in network.denoiser.parameters() if p.requires_grad]
    others = [encoder, discriminator, *(j for j in judges if isinstance(j, torch.nn.Module))]
    assert all(g is not None for name, g in zip(network.denoiser.state_dict(), found, strict=False))
    return [g for g in found if g is not None], others


def latent_scaling_of_ones() -> Any:
    from xray2ctpa_core.diffusion.latent_scaling import LatentScaling

    return LatentScaling((0.0,) * 4, (1.0,) * 4)


@pytest.mark.parametrize("timestep", [1, 500, 900, 999])
@pytest.mark.parametrize("codec", ["vae", "vqgan"])
def test_each_term_moves_the_denoiser_at_every_noise_level_and_no_judge(
    codec: str, timestep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CaseDraws, "uniform", lambda _: torch.full((2,), (timestep + 0.5) / 1000))
    judge = SliceCodec(small_autoencoder()) if codec == "vae" else VolumeCodec(small_vqgan())
    alone, _ = gradients(ObjectiveWeights(0, 0, 0), judge)
    for name in ("perceptual_weight", "adversarial_weight", "classifier_weight"):
        weights = ObjectiveWeights(
            **{f"{k}_weight": 0.0 for k in ("perceptual", "adversarial", "classifier")} | {name: 100.0}
        )
        together, judges = gradients(weights, judge)
        moved = sum(float((a - b).abs().sum()) for a, b in zip(alone, together, strict=True))
        assert all(g.isfinite().all() for g in together), name
        assert moved > 1e-4, (name, timestep, moved)
        assert all(p.grad is None for judge in judges for p in judge.parameters()), name


def test_the_opponent_learns_from_what_the_denoiser_just_made() -> None:
    torch.manual_seed(0)
    discriminator = build_discriminator(4, GRID, layers=2, width=8)
    network = ConditionedDenoiser(denoiser())
    made = AdversarialDenoiserStage(
        network, None, papers_schedule(), latent_scaling_of_ones(), ObjectiveWeights(0, 0.001, 0),
        Judges(discriminator=discriminator), GuidanceDropout(),
    )  # fmt: skip
    assert isinstance(made, TwoPlayerStage)
    made.loss(network, batch(), torch.Generator())
    made.opponent_loss(discriminator, batch()).backward()
    assert all(p.grad is not None for p in discriminator.parameters())
    assert all(p.grad is None for p in network.parameters())
    without = PaperDenoiserStage(
        network, None, papers_schedule(), latent_scaling_of_ones(), ObjectiveWeights(0, 0, 0), Judges(),
        GuidanceDropout(),
    )  # fmt: skip
    assert not isinstance(without, TwoPlayerStage)
    with pytest.raises(ConfigError, match="classifier_weight lacks"):
        PaperDenoiserStage(
            network, None, papers_schedule(), latent_scaling_of_ones(), ObjectiveWeights(0, 0, 1), Judges(),
            GuidanceDropout(),
        )  # fmt: skip


def test_a_case_draws_the_same_in_any_batch() -> None:
    together, alone = CaseDraws(torch.tensor([5, 9])), CaseDraws(torch.tensor([9]))
    assert torch.equal(together.uniform()[1:], alone.uniform())
    assert torch.equal(together.normal(torch.Size([2, 3]))[1:], alone.normal(torch.Size([2, 3])))


def test_guidance_of_one_is_the_conditional_prediction_and_none_ignores_the_film() -> None:
    network = ConditionedDenoiser(denoiser(), LabelEmbedding(16)).eval()
    assert network.labels is not None
    torch.nn.init.normal_(network.labels.table.weight)
    sample, times, embedding = torch.randn(2, 4, *GRID), torch.tensor([3, 500]), torch.randn(2, 16)
    label = torch.tensor([1, 0])
    with torch.no_grad():
        full = network(sample, times, embedding, None, label)
        assert torch.equal(guided(network, embedding, label, 1.0, 1.0, sample, times), full)
        nothing = guided(network, embedding, label, 0.0, 0.0, sample, times)
        assert torch.allclose(nothing, network(sample, times, None), atol=1e-6)
        dropped = network(sample, times, embedding, torch.tensor([False, True]), None)
        assert torch.allclose(dropped[0], network(sample, times, None)[0], atol=1e-6)
        assert torch.allclose(dropped[1], network(sample, times, embedding)[1], atol=1e-6)


def test_lora_trains_its_updates_alone_and_merges_into_the_papers_names() -> None:
    base = denoiser().eval()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    sample, times, embedding = torch.randn(1, 4, *GRID), torch.tensor([3]), torch.randn(1, 16)
    with torch.no_grad():
        expected = base(sample, times, embedding)
    model = with_lora(base, 2)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    with torch.no_grad():
        assert torch.allclose(ConditionedDenoiser(model)(sample, times, embedding), expected, atol=1e-5)
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_()
        moved = model(sample, times, embedding)
        plain = merged(model)
        assert torch.allclose(plain(sample, times, embedding), moved, atol=1e-4)
    assert plain.state_dict().keys() == before.keys()
    assert not torch.allclose(moved, expected)


def test_the_score_of_a_study_is_the_mean_of_its_volumes() -> None:
    cases = [
        LatentCase(row, Path(), study, patient, label, "test", "")
        for row, (study, patient, label) in enumerate(
            [("a", "p", 1), ("a", "p", 1), ("b", "q", 0), ("c", "q", 1)]
        )
    ]
    rows = prediction_rows(cases, np.array([0.2, 0.4, 0.1, 0.9]), 2, "test")
    assert [row[:4] for row in rows] == [("p", 2, "test", 1), ("q/b", 2, "test", 0), ("q/c", 2, "test", 1)]
    assert [row[4] for row in rows] == pytest.approx([0.3, 0.1, 0.9])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents of 30 cases with volumes and films, an autoencoder, and a film encoder."""
    place = tmp_path_factory.mktemp("study")
    volumes = {}
    for row in range(60):
        path = place / "volumes" / f"{row}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        array = np.full((8, 32, 32), 50.0 + row, np.float32)
        write_volume(Volume(array, axial_affine((8, 32, 32), (80, 320, 320))), path, np.int16)
        volumes[row] = {"volume": str(path)}
    write_latents(place / "latents", volumes, cases=30)
    write_films(place / "films", cases=30)
    small_autoencoder().save_pretrained(place / "autoencoder")
    FilmEncoder("small", SMALL_ENCODER, 32).save_pretrained(place / "film_encoder")
    return place


SHORT = ["steps=2", "checkpoint_every=1", "tensorboard=false"]


def smoke(kind: str, *sets: str) -> list[str]:
    return ["--config", str(CONFIGS / f"smoke-{kind}.json"), "--set", *SHORT, *sets]


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_latent_classifier_makes_an_arm_of_six_folds_and_goes_on_between_them(
    repository: Path, study: Path, tmp_path: Path
) -> None:
    sets = smoke("latent-classifier", f"latents={study / 'latents'}", "folds=3", "dataset=d")
    assert stage(repository, "train_paper_classifier.py", tmp_path / "one", *sets, "fold=1") == 0
    assert {row["fold"] for row in predictions(tmp_path / "one")} == {"1"}
    assert stage(repository, "train_paper_classifier.py", tmp_path / "one", *sets, "--resume") == 0
    rows = predictions(tmp_path / "one")
    assert json.loads((tmp_path / "one" / "arm.json").read_text()) == {
        "name": "one", "kind": "classifier", "dataset": "d",
    }  # fmt: skip
    tested = [row["patient"] for row in rows if row["split"] == "test"]
    assert sorted(tested) == sorted(f"p{n}" for n in range(30))
    assert all(row["label"] == str(int(row["patient"][1:]) % 2) for row in rows)
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    assert (tmp_path / "one" / "fold-2" / "pe_classifier" / "latent_scaling.json").is_file()


@pytest.mark.parametrize(
    ("script", "kind", "more"),
    [
        ("train_cxr_classifier.py", "cxr-classifier", "films={}/films"),
        ("train_slice_classifier.py", "slice-classifier", "hidden=4"),
    ],
)
def test_film_and_slice_classifiers_score_the_same_patients(
    script: str, kind: str, more: str, repository: Path, study: Path, tmp_path: Path
) -> None:
    sets = smoke(kind, f"latents={study / 'latents'}", more.format(study))
    assert stage(repository, script, tmp_path / "arm", *sets) == 0
    rows = predictions(tmp_path / "arm")
    assert [row["patient"] for row in rows if row["split"] == "test"] == [
        f"p{n}" for n in range(30) if n % 6 >= 4
    ]
    again = stage(repository, script, tmp_path / "on", *sets, f"start={tmp_path / 'arm'}")
    assert again == 0


def test_from_nothing_to_latents_under_every_loss_and_a_classifier_on_them(
    repository: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents, films = f"latents={study / 'latents'}", f"films={study / 'films'}"
    script, encoder = "train_paper_denoiser.py", f"encoder_weights={study / 'film_encoder'}"
    assert stage(repository, script, tmp_path / "a", *smoke("unconditional-denoiser", latents)) == 0
    classifier = smoke("latent-classifier", latents)
    assert stage(repository, "train_paper_classifier.py", tmp_path / "pe", *classifier) == 0
    judges = [f"autoencoder={study / 'autoencoder'}", f"classifier={tmp_path / 'pe' / 'pe_classifier'}"]
    sets = smoke("cxr-denoiser", latents, films, encoder, f"start={tmp_path / 'a'}")
    assert stage(repository, script, tmp_path / "bad", *sets) == 2
    assert "perceptual_weight above 0 needs autoencoder" in capsys.readouterr().err
    assert stage(repository, script, tmp_path / "b", *sets, *judges) == 0
    entry = json.loads((tmp_path / "b" / "log.jsonl").read_text().splitlines()[-1])
    assert {"l1", "perceptual", "adversarial", "classifier", "opponent"} <= entry.keys()
    lora = smoke("lora-denoiser", latents, films, encoder, f"start={tmp_path / 'b'}", "labels=true")
    assert stage(repository, script, tmp_path / "c", *lora) == 0
    assert (tmp_path / "c" / "lora" / "adapter_config.json").is_file()

    sets = ["--config", str(CONFIGS / "smoke-generate.json"), "--set", latents, films, "steps=2"]
    sets.append(f"denoiser={tmp_path / 'c'}")
    whole = [*sets, f"autoencoder={study / 'autoencoder'}", "batch_size=7"]
    assert stage(repository, "generate_latents.py", tmp_path / "g", *whole) == 0
    assert stage(repository, "generate_latents.py", tmp_path / "h", *sets, "batch_size=4") == 0
    made = np.load(tmp_path / "g" / "latents.npy")
    assert made.shape == (60, 4, *GRID)
    assert np.allclose(made, np.load(tmp_path / "h" / "latents.npy"), atol=2e-2)
    assert not np.allclose(made[0], made[1], atol=0.1)
    with (tmp_path / "g" / "pairs.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 10
    volume = read_volume(tmp_path / "g" / pairs[0]["generated"])
    assert np.allclose(volume.affine, read_volume(tmp_path / "g" / pairs[0]["real"]).affine)
    start = f"start={tmp_path / 'pe' / 'pe_classifier'}"
    on_generated = smoke("latent-classifier", f"latents={tmp_path / 'g'}", start)
    assert stage(repository, "train_paper_classifier.py", tmp_path / "pe2", *on_generated) == 0
    assert (tmp_path / "pe2" / "arm.json").is_file()


KINDS = {
    "autoencoder": "train_autoencoder.py",
    "vqgan": "train_vqgan.py",
    "latent-classifier": "train_paper_classifier.py",
    "cxr-classifier": "train_cxr_classifier.py",
    "slice-classifier": "train_slice_classifier.py",
    "unconditional-denoiser": "train_paper_denoiser.py",
    "drr-denoiser": "train_paper_denoiser.py",
    "cxr-denoiser": "train_paper_denoiser.py",
    "lora-denoiser": "train_paper_denoiser.py",
    "tiny-decoder": "train_tiny_decoder.py",
    "generate": "generate_latents.py",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_configuration_is_one_that_its_script_reads(kind: str, repository: Path) -> None:
    module = module_of(repository, KINDS[kind])
    found = {path.name: path for path in CONFIGS.glob(f"*-{kind}.json")}
    assert found.keys() >= {f"smoke-{kind}.json"}
    for path in found.values():
        configuration.load(module.Config, path)


def test_the_papers_presets_are_the_papers_sizes_and_weights(repository: Path) -> None:
    module = module_of(repository, "train_paper_denoiser.py")
    config = configuration.load(module.Config, CONFIGS / "paper-cxr-denoiser.json")
    assert (config.perceptual_weight, config.adversarial_weight, config.classifier_weight) == (
        0.01,
        0.001,
        0.08,
    )
    built, _ = module.networks(config, 4, 512)
    assert sum(p.numel() for p in built.parameters()) == 12_007_252
    assert len(built.state_dict()) == 301
    classifier = configuration.load(
        module_of(repository, "train_paper_classifier.py").Config, CONFIGS / "paper-latent-classifier.json"
    )
    network = PEClassifier(
        4, classifier.init_features, classifier.growth_rate, classifier.block_config, classifier.dropout,
        classifier.norm, classifier.first_stride, classifier.pool,
    )  # fmt: skip
    assert sum(p.numel() for p in network.parameters()) == 11_309_505


def test_the_driver_says_which_stages_it_would_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver: Any = module_of(repository, "train_paper.py")
    main: Callable[[], int] = driver.main
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["train_paper.py", *arguments])
    assert main() == 0
    said = capsys.readouterr().out.splitlines()
    scripts = [Path(word).name for line in said for word in line.split() if word.endswith(".py")]
    assert scripts[0] == "preprocess_ctpa.py"
    assert scripts.count("train_paper_denoiser.py") == 3
    assert all((repository / "Training" / script).is_file() for script in scripts)
    assert "train_autoencoder.py" in scripts
    monkeypatch.setattr(sys, "argv", ["train_paper.py", *arguments, "--codec", "vqgan"])
    assert main() == 0
    said = capsys.readouterr().out.splitlines()
    scripts = [Path(word).name for line in said for word in line.split() if word.endswith(".py")]
    assert "train_autoencoder.py" not in scripts
    assert scripts.index("train_vqgan.py") + 1 == scripts.index("encode_latents.py")
    folder = tmp_path / "run" / "vqgan" / "vqgan"
    assert "encode_latents.py" in next(line for line in said if f"autoencoder={folder}" in line)
    named = [line for line in said if "name=codec-vqgan" in line]
    assert [Path(line.split()[1]).name for line in named] == [
        "generate_latents.py",
        "train_paper_classifier.py",
    ]
    scaled = [line for line in said if "train_paper_denoiser.py" in line or "name=latent" in line]
    assert len(scaled) == 4
    assert all("scaling=standardised" in line for line in scaled)
    assert "train_tiny_decoder.py" not in scripts
    monkeypatch.setattr(sys, "argv", ["train_paper.py", *arguments, "--tiny-decoder"])
    assert main() == 0
    generates = [line for line in capsys.readouterr().out.splitlines() if "generate_latents.py" in line]
    assert f"decoder={tmp_path / 'run' / 'tiny-decoder' / 'decoder'}" in generates[0].split()
    assert "autoencoder=" not in generates[0]
    monkeypatch.setattr(sys, "argv", ["train_paper.py", *arguments, "--preset", "paper"])
    with pytest.raises(SystemExit):
        main()
