"""Self-supervised pre-training and segmentation by folds, on a data set in the Decathlon's form."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training needs the training extra")

import torch
from stage_scripts import step
from steps.segmentation import folded

from xray2ctpa_core.data.segmentation_cases import SegmentationCrops, read_segmentation_cases
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.models.segmentation.segmenter import Segmenter
from xray2ctpa_core.models.segmentation.self_supervision import SelfSupervised
from xray2ctpa_core.training.settings.segmentation import PretrainingConfig
from xray2ctpa_core.training.stages.pretraining import PretrainingStage, disturbed, rotated
from xray2ctpa_core.training.stages.segmentation import dice_of_classes, segmented
from xray2ctpa_core.volume import Volume, axial_affine

SHAPE = (16, 32, 32)


def write_spleens(folder: Path, cases: int = 4, patients: Sequence[str] = ()) -> Path:
    """A bright block in soft tissue, elsewhere in every case, in the form of MSD Spleen; ``patients`` names
    that of each case."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    listed = []
    for number in range(cases):
        label = np.zeros(SHAPE, np.float32)
        label[4:12, 8:20, 4 + 3 * number : 16 + 3 * number] = 1
        hu = 20 + 180 * label + np.random.default_rng(number).normal(0, 5, SHAPE)
        for kind, array in (("imagesTr", hu), ("labelsTr", label)):
            path = folder / kind / f"spleen_{number}.nii.gz"
            write_volume(Volume(array.astype(np.float32), axial_affine(SHAPE, (48, 96, 96))), path, np.int16)
        names = (f"./{kind}/spleen_{number}.nii.gz" for kind in ("imagesTr", "labelsTr"))
        listed.append(dict(zip(("image", "label"), names, strict=True)))
        if patients:
            listed[-1]["patient"] = patients[number]
    content = {"labels": {"0": "background", "1": "spleen"}, "training": listed}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("network", "feature_size", "cells"), [("unet", 4, (1, 2, 2)), ("swin-unetr", 12, (1, 1, 2))]
)
def test_a_segmenter_gives_logits_and_a_bottleneck_and_starts_from_another(
    network: str, feature_size: int, cells: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    segmenter, other = (Segmenter(network, classes, feature_size).eval() for classes in (3, 2))
    grid = tuple(segmenter.factor * cell for cell in cells)
    volumes = torch.rand(1, 1, *grid)
    with torch.no_grad():
        assert segmenter(volumes).shape == (1, 3, *grid)
        deepest = other.bottleneck(volumes)
        assert deepest.shape == (1, segmenter.bottleneck_channels, *cells)
        assert not torch.allclose(segmenter.bottleneck(volumes), deepest)
        segmenter.start_from(other)
        assert torch.allclose(segmenter.bottleneck(volumes), deepest, atol=1e-5)
    with pytest.raises(ConfigError, match="feature_size"):
        segmenter.start_from(Segmenter(network, 2, 2 * feature_size))


def test_views_are_turned_by_the_quarters_that_are_guessed_and_a_third_is_cut_out() -> None:
    generator = torch.Generator().manual_seed(1)
    volumes = torch.rand(6, 1, 8, 8, 8)
    views, turns = rotated(volumes, generator)
    assert set(turns.tolist()) <= {0, 1, 2, 3}
    for volume, view, turn in zip(volumes, views, turns, strict=True):
        assert torch.equal(view, torch.rot90(volume, int(turn), (2, 3)))
    changed = disturbed(volumes, 0.3, generator) != volumes
    assert 0.2 < float(changed.float().mean()) < 0.75
    assert torch.equal(disturbed(volumes, 0.0, generator), volumes)


def test_each_task_reaches_the_bottleneck_and_crops_of_one_cell_are_refused() -> None:
    volumes = torch.rand(2, 1, 16, 32, 32) * 2 - 1
    for name in ("rotation_weight", "contrast_weight", "inpainting_weight"):
        torch.manual_seed(0)
        model = SelfSupervised(Segmenter("unet", 2, 4))
        weights = dict.fromkeys(("rotation_weight", "contrast_weight", "inpainting_weight"), 0.0) | {
            name: 1.0
        }
        stage = PretrainingStage(model, PretrainingConfig(**weights))
        loss, terms = stage.loss(model, {"volume": volumes}, torch.Generator().manual_seed(0))
        loss.backward()
        assert float(loss.detach()) == pytest.approx(float(terms[name.removesuffix("_weight")]), rel=1e-5)
        gradient = model.segmenter.body.conv_0.conv_0.conv.weight.grad
        assert float(gradient.abs().sum()) > 0, name
    with pytest.raises(InputError, match="two cells of 16 voxels"):
        model(volumes[:, :, :, :16, :16])


def test_crops_hold_volume_and_label_of_one_place_and_small_volumes_are_padded(tmp_path: Path) -> None:
    cases, classes = read_segmentation_cases(write_spleens(tmp_path))
    assert classes == ["background", "spleen"]
    data = SegmentationCrops(cases, (-175, 250), (32, 16, 16))
    shares = []
    for seed in range(20):
        item = data[(1, seed)]
        assert item["volume"].shape == item["label"].shape == (1, 32, 16, 16)
        inside = item["volume"][item["label"] == 1]
        assert inside.numel() == 0 or 0.8 < float(inside.mean()) < 0.95
        assert float(item["label"][:, 16:].sum()) == 0
        shares.append(float(item["label"].float().mean()))
    assert sum(share > 0 for share in shares) > 10
    (tmp_path / "labelsTr" / "spleen_2.nii.gz").unlink()
    with pytest.raises(InputError, match="spleen_2"):
        read_segmentation_cases(tmp_path)


def test_bcvs_own_folders_are_read_and_a_volume_without_labels_is_named(tmp_path: Path) -> None:
    decathlon = write_spleens(tmp_path / "msd", 2)
    training = tmp_path / "bcv" / "RawData" / "Training"
    for kind, name in (("imagesTr", "img"), ("labelsTr", "label")):
        (training / name).mkdir(parents=True)
        for number in range(2):
            file = decathlon / kind / f"spleen_{number}.nii.gz"
            (training / name / f"{name}000{number + 1}.nii.gz").write_bytes(file.read_bytes())
    cases, classes = read_segmentation_cases(tmp_path / "bcv")
    assert [case.name for case in cases] == ["img0001", "img0002"]
    assert (len(classes), classes[1], classes[6], classes[13]) == (
        14,
        "spleen",
        "liver",
        "left adrenal gland",
    )
    item = SegmentationCrops(cases, (-175, 250), SHAPE)[(1, 0)]
    assert float(item["volume"][item["label"] == 1].mean()) > 0.8
    assert len(read_segmentation_cases(training, 1)[0]) == 1
    (training / "label" / "label0002.nii.gz").unlink()
    with pytest.raises(InputError, match="label0002"):
        read_segmentation_cases(tmp_path / "bcv")


def test_dice_is_1_for_the_label_itself_and_nan_for_a_class_that_is_not_there() -> None:
    label = np.zeros(SHAPE, int)
    label[4:8] = 1
    assert dice_of_classes(label, label, 2) == [1.0]
    assert np.isnan(dice_of_classes(label, label, 3)[1])

    class Bright(torch.nn.Module):
        def forward(self, volumes: torch.Tensor) -> torch.Tensor:
            return torch.cat([0.5 - volumes, volumes - 0.5], 1)

    found = segmented(Bright(), torch.from_numpy(label).float()[None], (16, 16, 16))  # type: ignore[arg-type]
    assert dice_of_classes(found, label, 2) == [1.0]


@pytest.mark.parametrize(
    ("network", "steps", "folds", "least_dice"),
    [("unet", 24, 5, 0.2), ("swin-unetr", 1, 2, 0.0)],  # all of it called spleen would give 0.13
)
def test_a_recipe_pretrains_fine_tunes_and_reports_dice_of_every_case_once(
    repository: Path, tmp_path: Path, network: str, steps: int, folds: int, least_dice: float
) -> None:
    data = write_spleens(tmp_path / "data", 5)
    cases = tmp_path / "ct"
    rows = ["id,patient,label,split,folder"]
    for number in range(4):
        case = cases / "cases" / f"s{number}"
        case.mkdir(parents=True)
        hu = np.tile(read_volume(data / "imagesTr" / f"spleen_{number}.nii.gz").array, (4, 1, 1))
        write_volume(Volume(hu, axial_affine(hu.shape, (192, 96, 96))), case / "ctpa-0.nii.gz", np.int16)
        record = {
            "settings": {"window": [-1000, 1000]},
            "volumes": {"ctpa-0.nii.gz": {}},
            "source": {"where": "t"},
        }
        (case / "case.json").write_text(json.dumps(record))
        rows.append(f"s{number},p{number},,,cases/s{number}")
    (cases / "cases.csv").write_text("\n".join(rows) + "\n")
    size = {
        "unet": ("feature_size=4", "crop=[16,32,32]"),
        "swin-unetr": ("feature_size=12", "crop=[64,32,32]"),
    }
    short = [f"network={network}", *size[network], "batch_size=2", "precision=no"]
    short += ["tensorboard=false", "checkpoint_every=100", "warmup=1"]
    sets = [*short, "steps=2", f"studies={cases}", "hu_window=[-1000,1000]"]
    assert step(repository, "xctdiff", "pretraining", tmp_path, *sets, "crop=[16,32,16]") == 2
    assert step(repository, "xctdiff", "pretraining", tmp_path, *sets) == 0
    start = tmp_path / "pretraining" / "segmenter"
    sets = [
        *short,
        f"steps={steps}",
        f"folds={folds}",
        "learning_rate=0.01",
        "ema_decay=0.5",
        f"data={data}",
        f"start={start}",
    ]
    assert step(repository, "xctdiff", "segmentation", tmp_path, *sets) == 0
    report = json.loads((tmp_path / "segmentation" / "dice.json").read_text())
    assert sorted(report["cases"]) == [f"spleen_{n}" for n in range(5)]
    assert len(list((tmp_path / "segmentation").glob("fold-*/segmenter"))) == folds
    assert report["mean"] == pytest.approx(report["classes"]["spleen"])
    assert report["mean"] >= least_dice


def test_arms_are_compared_on_the_same_cases(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = {"scratch": {"a": 0.5, "b": 0.7}, "taught": {"a": 0.6, "b": 0.9}, "other": {"a": 0.6, "c": 0.9}}
    for name, cases in dice.items():
        (tmp_path / name).mkdir()
        by_case = {case: {"spleen": value, "liver": None} for case, value in cases.items()}
        report = {"cases": by_case, "patients": {case: f"p-{case}" for case in cases}}
        (tmp_path / name / "dice.json").write_text(json.dumps(report))
    arms = [f"{name}={tmp_path / name}" for name in ("scratch", "taught")]
    assert step(repository, "xctdiff", "figure-4", tmp_path, f"arms={json.dumps(arms)}") == 0
    scratch, taught = (tmp_path / "figure-4" / "table.md").read_text().splitlines()[2:]
    assert scratch.startswith("| scratch | 2 | 0.600 [")
    assert scratch.endswith("| - |")
    assert taught.startswith("| taught | 2 | 0.750 [")
    assert taught.split(" | ")[3].startswith("0.150 [")
    arms.append(f"other={tmp_path / 'other'}")
    assert step(repository, "xctdiff", "figure-4", tmp_path / "again", f"arms={json.dumps(arms)}") == 2
    assert "one set of patients in all arms, got others in other" in capsys.readouterr().err


def test_all_cases_of_a_patient_are_in_one_fold_and_count_as_one(repository: Path, tmp_path: Path) -> None:
    scratch, owners = "segmentation-from-scratch", ["p", "q", "p", "q", "q"]
    data = write_spleens(tmp_path / "data", 5, owners)
    cases, _ = read_segmentation_cases(data)
    folds = folded(cases, 2, 1)
    assert sorted("".join(case.patient for case in fold) for fold in folds) == ["pp", "qqq"]
    short = ["network=unet", "feature_size=4", "crop=[16,32,32]", "batch_size=2", "precision=no", "steps=2"]
    short += ["tensorboard=false", "warmup=1", f"data={data}"]
    assert step(repository, "xctdiff", scratch, tmp_path, *short, "folds=3") == 2
    assert step(repository, "xctdiff", scratch, tmp_path, *short, "folds=2") == 0
    report = json.loads((tmp_path / scratch / "dice.json").read_text())
    assert report["patients"] == {f"spleen_{n}": owner for n, owner in enumerate(owners)}
    arms = [f"{name}={tmp_path / scratch}" for name in ("once", "again")]
    assert step(repository, "xctdiff", "figure-4", tmp_path, f"arms={json.dumps(arms)}") == 0
    assert (tmp_path / "figure-4" / "table.md").read_text().splitlines()[2].startswith("| once | 2 | ")
