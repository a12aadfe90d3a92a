"""The papers' stages: each learns, says what it needs, and leaves what the next one reads."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs the training extra")

from diffusers import AutoencoderKL
from latent_data import read_all, write_latents, write_radiographs
from stage_scripts import read, step, with_steps

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
from xray2ctpa_core.models.encoders.published import PublishedEncoder
from xray2ctpa_core.training.arms import prediction_rows
from xray2ctpa_core.training.draws import CaseDraws
from xray2ctpa_core.training.loop import TwoPlayerStage
from xray2ctpa_core.training.losses.denoising import build_discriminator
from xray2ctpa_core.training.settings.denoisers import GuidanceDropout, ObjectiveWeights
from xray2ctpa_core.training.stages.paper_denoiser import (
    AdversarialDenoiserStage,
    Judges,
    PaperDenoiserStage,
)
from xray2ctpa_core.volume import Volume, axial_affine

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
    encoder = PublishedEncoder("small", SMALL_ENCODER, 16)
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
    with pytest.raises(ConfigError, match="none for classifier_weight"):
        PaperDenoiserStage(
            network, None, papers_schedule(), latent_scaling_of_ones(), ObjectiveWeights(0, 0, 1), Judges(),
            GuidanceDropout(),
        )  # fmt: skip


def test_a_case_draws_the_same_in_any_batch() -> None:
    together, alone = CaseDraws(torch.tensor([5, 9])), CaseDraws(torch.tensor([9]))
    assert torch.equal(together.uniform()[1:], alone.uniform())
    assert torch.equal(together.normal(torch.Size([2, 3]))[1:], alone.normal(torch.Size([2, 3])))


def test_guidance_of_one_is_the_conditional_prediction_and_none_ignores_the_radiograph() -> None:
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
    """Latents of 30 cases with volumes and radiographs, an autoencoder, and a radiograph encoder."""
    place = tmp_path_factory.mktemp("study")
    volumes = {}
    for row in range(60):
        path = place / "volumes" / f"{row}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        array = np.full((8, 32, 32), 50.0 + row, np.float32)
        write_volume(Volume(array, axial_affine((8, 32, 32), (80, 320, 320))), path, np.int16)
        volumes[row] = {"volume": str(path)}
    write_latents(place / "latents", volumes, cases=30)
    write_radiographs(place / "radiographs", cases=30)
    small_autoencoder().save_pretrained(place / "autoencoder")
    PublishedEncoder("small", SMALL_ENCODER, 32).save_pretrained(place / "radiograph_encoder")
    return place


SHORT = ["steps=2", "checkpoint_every=1", "tensorboard=false"]


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_latent_classifier_makes_an_arm_of_six_folds_and_goes_on_between_them(
    repository: Path, study: Path, tmp_path: Path
) -> None:
    sets = [*SHORT, f"latents={study / 'latents'}", "folds=3", "dataset=d", "name=one"]
    assert step(repository, "smoke", "classifier", tmp_path, *sets, "fold=1") == 0
    one = tmp_path / "classifier"
    assert {row["fold"] for row in predictions(one)} == {"1"}
    (one / "arm.json").unlink()
    assert step(repository, "smoke", "classifier", tmp_path, *sets) == 0
    rows = predictions(one)
    assert json.loads((one / "arm.json").read_text()) == {
        "name": "one", "kind": "classifier", "dataset": "d",
    }  # fmt: skip
    tested = [row["patient"] for row in rows if row["split"] == "test"]
    assert sorted(tested) == sorted(f"p{n}" for n in range(30))
    assert all(row["label"] == str(int(row["patient"][1:]) % 2) for row in rows)
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    assert (one / "fold-2" / "pe_classifier" / "latent_scaling.json").is_file()


@pytest.mark.parametrize(
    ("kind", "more"), [("cxr-classifier", "radiographs={}/radiographs"), ("slice-classifier", "hidden=4")]
)
def test_radiograph_and_slice_classifiers_score_the_same_patients(
    kind: str, more: str, repository: Path, study: Path, tmp_path: Path
) -> None:
    sets = [*SHORT, f"latents={study / 'latents'}", more.format(study)]
    assert step(repository, "smoke", kind, tmp_path / "a", *sets) == 0
    rows = predictions(tmp_path / "a" / kind)
    assert [row["patient"] for row in rows if row["split"] == "test"] == [
        f"p{n}" for n in range(30) if n % 6 >= 4
    ]
    again = step(repository, "smoke", kind, tmp_path / "b", *sets, f"start={tmp_path / 'a' / kind}")
    assert again == 0


def test_from_nothing_to_latents_under_every_loss_and_a_classifier_on_them(
    repository: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents, radiographs = f"latents={study / 'latents'}", f"radiographs={study / 'radiographs'}"
    encoder = f"encoder_weights={study / 'radiograph_encoder'}"
    assert step(repository, "smoke", "unconditional", tmp_path, *SHORT, latents) == 0
    assert step(repository, "smoke", "classifier", tmp_path, *SHORT, latents) == 0
    sets = [*SHORT, latents, radiographs, encoder, f"start={tmp_path / 'unconditional'}"]
    assert step(repository, "smoke", "denoiser", tmp_path / "bad", *sets, "autoencoder=", "classifier=") == 2
    assert "perceptual_weight above 0 needs autoencoder" in capsys.readouterr().err
    judges = [f"autoencoder={study / 'autoencoder'}"]
    assert step(repository, "smoke", "denoiser", tmp_path, *sets, *judges) == 0
    entry = json.loads((tmp_path / "denoiser" / "log.jsonl").read_text().splitlines()[-1])
    assert {"l1", "perceptual", "adversarial", "classifier", "opponent"} <= entry.keys()
    assert (
        step(repository, "smoke", "lora", tmp_path, *SHORT, latents, radiographs, encoder, "labels=true") == 0
    )
    assert (tmp_path / "lora" / "lora" / "adapter_config.json").is_file()

    sets = [latents, radiographs, "steps=2", f"denoiser={tmp_path / 'lora'}", "decoder="]
    whole = [*sets, f"autoencoder={study / 'autoencoder'}", "batch_size=7"]
    assert step(repository, "smoke", "generated", tmp_path, *whole) == 0
    assert step(repository, "smoke", "generated", tmp_path / "h", *sets, "autoencoder=", "batch_size=4") == 0
    g = tmp_path / "generated"
    made = read_all(g)
    assert made.shape == (60, 4, *GRID)
    assert np.allclose(made, read_all(tmp_path / "h" / "generated"), atol=2e-2)
    assert not np.allclose(made[0], made[1], atol=0.1)
    with (g / "pairs.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 10
    volume = read_volume(g / pairs[0]["generated"])
    assert np.allclose(volume.affine, read_volume(g / pairs[0]["real"]).affine)
    assert step(repository, "smoke", "classifier-on-generated", tmp_path, *SHORT) == 0
    assert (tmp_path / "classifier-on-generated" / "arm.json").is_file()


def test_the_papers_recipe_has_the_papers_sizes_and_weights(repository: Path, tmp_path: Path) -> None:
    with_steps(repository)
    from steps.paper_denoiser import networks

    steps = {step.name: step.settings for step in read(repository, "paper", tmp_path).steps}
    config = steps["denoiser"]
    assert (config.perceptual_weight, config.adversarial_weight, config.classifier_weight) == (
        0.01,
        0.001,
        0.08,
    )
    built, _ = networks(steps["unconditional"], 4, 512)
    assert sum(p.numel() for p in built.parameters()) == 12_007_252
    assert len(built.state_dict()) == 301
    classifier = steps["classifier"]
    network = PEClassifier(
        4, classifier.init_features, classifier.growth_rate, classifier.block_config, classifier.dropout,
        classifier.norm, classifier.first_stride, classifier.pool,
    )  # fmt: skip
    assert sum(p.numel() for p in network.parameters()) == 11_309_505
