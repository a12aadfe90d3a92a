"""The style transfer: sizes, what each loss reaches, that it learns a style, that lost anatomy is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training needs the training extra")

import torch
from accelerate.state import AcceleratorState
from pairs import write_mixed_studies
from stage_scripts import recipe, step
from test_pairs import SMALL_SCAN, TINY
from tiny_bundle import write_tiny_pipeline
from torch.nn import functional

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.data.unpaired_radiographs import UnpairedRadiographs
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.style_transfer import StyleTransfer
from xray2ctpa_core.pipelines.bundle import PEOperatingPoint, write_bundle_json
from xray2ctpa_core.pipelines.bundle_opinion import bundle_opinion
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.pipelines.second_opinion import HEAD_CALIBRATION
from xray2ctpa_core.training.loop import TwoPlayerStage
from xray2ctpa_core.training.settings.style_transfer import StyleTransferConfig
from xray2ctpa_core.training.stages.style_transfer import Judges, StyleTransferStage, Translators, lungs_kept
from xray2ctpa_core.volume import FrontalFrame, Radiograph

P = 32
#: The style transfer of a recipe, small.
SMALL = ["steps=2", "width=4", "blocks=1", "discriminator_layers=2", "discriminator_width=8", "precision=no",
         "tensorboard=false", "checkpoint_every=1"]  # fmt: skip


def thorax(seed: int) -> np.ndarray:
    """(P, P) in [0, 1]: two dark ovals on grey, elsewhere for every seed."""
    rows, columns = np.mgrid[:P, :P].astype(np.float32)
    shift = np.random.default_rng(seed).uniform(-3, 3)
    ovals = [((rows - 16) / 10) ** 2 + ((columns - centre - shift) / 5) ** 2 < 1 for centre in (9, 23)]
    return np.where(ovals[0] | ovals[1], 0.2, 0.7).astype(np.float32)


def write_radiographs(folder: Path, images: list[np.ndarray]) -> Path:
    rows = ["id,patient,label,split,folder"]
    for number, image in enumerate(images):
        case = folder / "cases" / f"r{number}"
        case.mkdir(parents=True)
        np.save(case / "cxr.npy", image)
        (case / "case.json").write_text("{}")
        rows.append(f"r{number},p{number},,,cases/r{number}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def made_stage(**changes: Any) -> StyleTransferStage:
    torch.manual_seed(0)
    config = StyleTransferConfig(**{"width": 4, "blocks": 1, **changes})
    return StyleTransferStage(Translators(4, 1), config, Judges(P, 2, 8), 2e-4)


def batch() -> dict[str, torch.Tensor]:
    real, computed = (
        torch.from_numpy(np.stack([thorax(s) for s in seeds]))[:, None] for seeds in ((1, 2), (3, 4))
    )
    return {"real": 1 - real, "computed": computed}


def test_the_reference_generator_and_its_discriminator_have_the_published_sizes() -> None:
    with torch.device("meta"):
        generator = StyleTransfer()
        assert generator(torch.zeros(1, 1, 256, 256)).shape == (1, 1, 256, 256)
        count = sum(p.numel() for p in generator.parameters())
    assert count == 11_365_633  # ResNet-9 of one channel


def test_each_player_learns_from_its_own_loss_alone() -> None:
    stage = made_stage()
    assert isinstance(stage, TwoPlayerStage)
    loss, terms = stage.loss(stage.module, batch(), torch.Generator())
    expected = terms["adversarial"] + 10 * (terms["cycle"] + 0.5 * terms["identity"])
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    loss.backward()
    assert all(p.grad is None for p in stage.opponent.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stage.module.parameters())
    stage.opponent_loss(stage.opponent, batch()).backward()
    assert all(p.grad is not None for p in stage.opponent.parameters())


def test_a_generator_that_keeps_its_style_loses_nothing_on_the_way_there_and_back() -> None:
    stage = made_stage()

    class Kept(torch.nn.Module):
        def forward(self, real: torch.Tensor, computed: torch.Tensor) -> dict[str, torch.Tensor]:
            names = ("as_computed", "real_again", "real_kept")
            others = ("as_real", "computed_again", "computed_kept")
            return dict.fromkeys(names, real) | dict.fromkeys(others, computed)

    _, terms = stage.loss(Kept(), batch(), torch.Generator())
    assert float(terms["cycle"]) == float(terms["identity"]) == 0
    assert float(terms["adversarial"]) > 0


def test_lungs_that_stay_overlap_fully_and_mirrored_ones_less() -> None:
    image = torch.from_numpy(np.stack([thorax(1), thorax(1)]))[:, None]
    moved = torch.stack([image[0], image[1].roll(6, 2)])
    kept = lungs_kept(lambda images: images < 0.4, image, moved)
    assert float(kept[0]) == 1
    assert 0.2 < float(kept[1]) < 0.8


def test_real_and_computed_radiographs_are_drawn_apart_and_standardised_ones_refused(tmp_path: Path) -> None:
    real = write_radiographs(tmp_path / "real", [1 - thorax(n) for n in range(3)])
    computed = write_radiographs(tmp_path / "computed", [thorax(n) for n in range(5)])
    data = UnpairedRadiographs(real, computed)
    assert len(data) == 3
    drawn = [data[(1, seed)] for seed in range(12)]
    assert all(torch.equal(item["real"][0], torch.from_numpy(1 - thorax(1))) for item in drawn)
    assert len({float(item["computed"].sum()) for item in drawn}) > 2
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        UnpairedRadiographs(write_radiographs(tmp_path / "other", [3 * thorax(0)]), computed)[(0, 0)]


def test_a_recipe_trains_the_transfer_and_restyles_a_folder_or_says_that_anatomy_is_lost(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = write_radiographs(tmp_path / "real", [1 - thorax(n) for n in range(2)])
    computed = write_radiographs(tmp_path / "computed", [thorax(n) for n in range(2)])
    torch.manual_seed(0)
    locator = LungLocator((4, 8, 8), 32)
    with torch.no_grad():
        locator.mask_head.bias.fill_(50.0)  # sees lung everywhere: nothing is lost
    locator.save_pretrained(tmp_path / "locator")
    sets = [*SMALL, f"real={real}", f"computed={computed}"]
    assert step(repository, "xctdiff", "style-transfer", tmp_path, *sets) == 0
    sets = [f"radiographs={real}", f"translator={tmp_path / 'style-transfer' / 'to_computed'}"]
    sets += [f"lung_locator={tmp_path / 'locator'}"]
    assert step(repository, "xctdiff", "restyled", tmp_path, *sets) == 0
    anatomy = json.loads((tmp_path / "restyled" / "anatomy.json").read_text())
    assert anatomy == {"lung_dice": {"r0": 1.0, "r1": 1.0}, "mean": 1.0}
    made = np.load(tmp_path / "restyled" / "cases" / "r0" / "cxr.npy")
    assert made.shape == (P, P)
    assert 0 <= made.min() < made.max() <= 1
    assert (tmp_path / "restyled" / "cases.csv").read_text() == (real / "cases.csv").read_text()
    with torch.no_grad():
        locator.mask_head.bias.fill_(-50.0)
    locator.save_pretrained(tmp_path / "locator")
    assert step(repository, "xctdiff", "restyled", tmp_path / "again", *sets) == 2
    assert "lungs that overlap by 0.8" in capsys.readouterr().err


def test_the_transfer_learns_to_invert_greys() -> None:
    """Real ones are the computed ones' negatives: after some steps greys are nearer to the wanted style."""
    torch.manual_seed(0)
    generator = StyleTransfer(8, 1)
    images, wanted = batch()["real"], 1 - batch()["real"]
    before = float(functional.l1_loss(generator(images), wanted).detach())
    optimizer = torch.optim.Adam(generator.parameters(), 2e-3)
    for _ in range(30):
        loss = functional.l1_loss(generator(images), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.4 * before


@pytest.fixture(scope="module")
def transfer(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the recipe style-transfer on two real radiographs and two computed ones, for a tiny bundle."""
    AcceleratorState._reset_state(reset_partial_state=True)  # this fixture comes before the one of each test
    place = tmp_path_factory.mktemp("transfer")
    real = write_mixed_studies(place / "real", (False, False))
    computed = write_mixed_studies(place / "computed", (True, True))
    tiny = write_tiny_pipeline(place / "tiny")
    steps = ["computed-cxr", "real-cxr", "style-transfer", "restyled", "styled"]
    sets = ["real-cxr.force=true", "real-cxr.workers=1", "computed-cxr.workers=1", "run.pixels=128"]
    sets += [f"run.computed={computed}", f"run.bundle={tiny}", "restyled.least_dice=0.0"]
    sets += [f"style-transfer.{change}" for change in SMALL]
    words = ["--data", str(real), "--only", *steps, "--set", *sets]
    assert recipe(repository, "style-transfer", place / "run", *words) == 0
    return place


def volume(bundle: Path, out: Path) -> np.ndarray:
    """What `generate` makes of the sample radiograph."""
    words = ["generate", str(SAMPLE_CXR), "--bundle", str(bundle), "--steps", "1", "--force"]
    assert main([*words, "--out", str(out)]) == 0
    return np.asarray(read_volume(out / "ctpa.nii.gz").array)


def test_any_bundle_reads_radiographs_through_the_style_transfer_or_as_they_are(
    transfer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, styled = transfer / "tiny", transfer / "run" / "styled"
    assert not np.array_equal(volume(plain, tmp_path / "plain"), volume(styled, tmp_path / "styled"))

    pipelines = [XRay2CTPAPipeline.from_pretrained(bundle) for bundle in (plain, styled)]
    assert [pipeline.bundle.metrics for pipeline in pipelines] == [{"psnr": 20.5}, {}]  # measured without it
    assert "style transfer was trained on unpaired radiographs" in pipelines[1].bundle.trained_on
    image = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(1))
    translated = load_part(transfer / "run" / "style-transfer" / "to_computed").restyled(image)
    assert torch.equal(pipelines[1].restyled(image), translated)
    expected = pipelines[0].sample_latents(translated, num_inference_steps=1)
    assert torch.equal(pipelines[1].sample_latents(image, num_inference_steps=1), expected)
    assert torch.equal(
        *(pipe.classify_radiograph(x) for pipe, x in zip(pipelines, (translated, image), strict=True))
    )

    opinions = [
        bundle_opinion(b, p.bundle, p.xray_encoder) for b, p in zip((plain, styled), pipelines, strict=True)
    ]
    radiograph, frame = (
        Radiograph(np.random.default_rng(0).random((90, 90), np.float32)),
        FrontalFrame(0, 0, 90),
    )
    images = [opinion.image_of(radiograph, frame) for opinion in opinions]
    assert torch.equal(images[1], pipelines[1].restyled(images[0]))

    (tmp_path / "radiographs").mkdir()
    shutil.copy(SAMPLE_CXR, tmp_path / "radiographs")
    words = ["evaluate", "--radiographs", str(tmp_path / "radiographs"), "--steps", "1"]
    words += ["--bundle", str(plain), "--bundle", str(styled), "--out", str(tmp_path / "evaluation")]
    assert main(words) == 0
    summary = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    compared = summary["radiographs"][0]["bundles"]
    assert [entry["bundle"] for entry in compared] == ["tiny", "tiny-styled"]
    capsys.readouterr()


def test_scores_that_were_calibrated_without_the_transfer_are_uncalibrated_with_it(
    repository: Path, transfer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrated = tmp_path / "calibrated"
    shutil.copytree(transfer / "tiny", calibrated)
    of_head = {HEAD_CALIBRATION: {"threshold": 0.4, "platt_a": 2.0, "platt_b": 0.5, "calibrated": True}}
    own = XRay2CTPAPipeline.from_pretrained(calibrated).bundle
    fitted = PEOperatingPoint(0.3, 2.0, -1.0, calibrated=True)
    write_bundle_json(calibrated, replace(own, metrics=of_head, pe=fitted))
    translator = transfer / "run" / "style-transfer" / "to_computed"
    sets = [f"run.bundle={calibrated}", f"styled.style={translator}"]
    words = ["--data", "x", "--only", "styled", "--set", *sets]
    assert recipe(repository, "style-transfer", tmp_path, *words) == 0
    said, by_head = {}, []
    for name in ("calibrated", "styled"):
        volume(tmp_path / name, tmp_path / f"result-{name}")
        pipeline = XRay2CTPAPipeline.from_pretrained(tmp_path / name)
        by_head.append(bundle_opinion(tmp_path / name, pipeline.bundle, pipeline.xray_encoder).settings)
        said[name] = json.loads((tmp_path / f"result-{name}" / "result.json").read_text())["pe"]
        assert main(["info", str(tmp_path / name)]) == 0
    assert [said[name]["calibrated"] for name in said] == [True, False]
    assert [(opinion.calibrated, opinion.threshold) for opinion in by_head] == [(True, 0.4), (False, 0.4)]
    assert [said[name]["threshold"] for name in said] == [0.3, 0.3]
    assert "not calibrated" in capsys.readouterr().out


@pytest.mark.slow
def test_a_recipe_that_names_the_transfer_trains_through_it_and_its_bundle_generates_through_it(
    repository: Path, transfer: Path, tmp_path: Path
) -> None:
    data = write_mixed_studies(tmp_path / "data", (False, False))
    translator = transfer / "run" / "style-transfer" / "to_computed"
    sets = [*TINY, *SMALL_SCAN, "radiographs.pixels=128", "pack.steps=1"]
    words = ["--data", str(data), "--set", *sets]
    with_it, without = tmp_path / "with", tmp_path / "without"
    assert recipe(repository, "real-pairs", with_it, *words, f"radiographs.style={translator}") == 0
    assert recipe(repository, "real-pairs", without, *words) == 0

    assert json.loads((without / "ctpa" / "settings.json").read_text())["crop"] == "frame"
    assert "extent_mm" not in json.loads((without / "pack" / "bundle.json").read_text())["geometry"]
    frames = [np.load(run / "radiographs" / "cases" / "s0" / "cxr.npy") for run in (without, with_it)]
    translated = load_part(translator).restyled(torch.from_numpy(frames[0].astype(np.float32))[:, None])[:, 0]
    assert frames[0].shape == (2, 128, 128)  # the plain one and a variant
    np.testing.assert_allclose(frames[1], translated.numpy(), atol=2e-3)  # both are kept in float16
    assert XRay2CTPAPipeline.from_pretrained(without / "pack").style_transfer is None
    packed = XRay2CTPAPipeline.from_pretrained(with_it / "pack").style_transfer
    assert packed is not None
    assert torch.equal(packed.layers[1].weight, load_part(translator).layers[1].weight)
    assert volume(with_it / "pack", tmp_path / "result").std() > 0


@pytest.mark.parametrize("standardised", [(0.0, 1.0), (0.633, 0.181)])
def test_a_standardised_radiograph_is_translated_as_greys_are(standardised: tuple[float, float]) -> None:
    torch.manual_seed(0)
    mean, std = standardised
    network, greys = StyleTransfer(4, 1), batch()["real"]
    found = network.restyled((greys - mean) / std, mean, std)
    torch.testing.assert_close(found * std + mean, network(greys).detach())


def test_a_bundle_takes_no_transfer_towards_real_ones_and_no_recipe_a_folder_without_one(
    repository: Path, transfer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    towards_real = transfer / "run" / "style-transfer" / "to_real"
    sets = [f"run.bundle={transfer / 'tiny'}", f"styled.style={towards_real}"]
    assert (
        recipe(repository, "style-transfer", tmp_path, "--data", "x", "--only", "styled", "--set", *sets) == 2
    )
    assert "from real to computed" in capsys.readouterr().err
    data = transfer / "real"
    words = ["--data", str(data), "--only", "radiographs", "--set", f"radiographs.style={data}"]
    assert recipe(repository, "real-pairs", tmp_path, *words) == 2
    assert "got no diffusion_pytorch_model.safetensors" in capsys.readouterr().err


def test_a_size_that_cannot_be_halved_twice_and_a_style_of_neither_kind_are_refused() -> None:
    with pytest.raises(InputError, match=r"multiple of 4 .* got \(30, 32\)"):
        StyleTransfer(4, 1)(torch.zeros(1, 1, 30, 32))
    with pytest.raises(ConfigError, match="'painted'"):
        StyleTransfer(4, 1, "painted")
