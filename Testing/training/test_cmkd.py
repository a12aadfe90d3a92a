"""CMKD and its baselines: each method trains on three folds of tiny patients and leaves an arm."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate", reason="training needs the training extra")

from latent_data import write_radiographs
from stage_scripts import read, recipe, stage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))
from tiny_bundle import write_tiny_pipeline

from xray2ctpa_core.data.slice_features import read_feature_cases, read_slices
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.tables.definition import read_definitions
from xray2ctpa_core.evaluation.tables.embedding import read_features
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.pipelines.prior_opinion import load_prior_opinion
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume, axial_affine

SHORT = [
    "steps=2", "batch_size=4", "precision=no", "tensorboard=false", "folds=3", "fold=0", "width=16",
    "depth=1", "heads=2", "embedding_dim=24", "small_dim=24", "small_features=8", "small_growth=4",
    "small_blocks=[2,2]", "dataset=tiny",
]  # fmt: skip


def write_features(folder: Path, cases: int, splits: tuple[str, ...] = ("",)) -> Path:
    """Slices whose first feature is the label, studies of different lengths."""
    (folder / "features").mkdir(parents=True)
    rows = ["id,patient,label,split,features"]
    rng = np.random.default_rng(0)
    for n in range(cases):
        slices = rng.normal(size=(5 + n % 3, 12)).astype(np.float32)
        slices[:, 0] = n % 2
        np.save(folder / "features" / f"s{n}.npy", slices)
        rows.append(f"s{n},p{n},{n % 2},{splits[n % len(splits)]},features/s{n}.npy")
    (folder / "features.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("cmkd")
    features = write_features(folder / "slices", 18)
    radiographs = write_radiographs(folder / "cxr", 18)
    return [f"features={features}", f"radiographs={radiographs}"]


@pytest.fixture(scope="module")
def runs(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The teacher and the radiograph's classifier, which the others need."""
    repository = Path(__file__).resolve().parents[2]
    out = tmp_path_factory.mktemp("runs")
    for method in ("ctpa", "cxr"):
        assert stage(repository, "cmkd", out / method, f"method={method}", *SHORT, *data) == 0
    return {method: out / method for method in ("ctpa", "cxr")}


def test_the_test_patients_embeddings_are_kept_for_the_figure(runs: dict[str, Path]) -> None:
    judged = {row["patient"] for row in rows_of(runs["ctpa"]) if row["split"] == "test"}
    for arm in runs.values():
        features = read_features(arm / "features.npz")
        assert set(features.patients) == judged
        assert features.vectors.shape == (len(judged), 24)


def rows_of(arm: Path) -> list[dict[str, str]]:
    with (arm / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_teacher_and_student_leave_their_networks_and_arms(runs: dict[str, Path]) -> None:
    assert (runs["ctpa"] / "fold-0" / "teacher" / "config.json").is_file()
    assert (runs["cxr"] / "fold-0" / "student" / "config.json").is_file()
    for arm in runs.values():
        rows = rows_of(arm)
        assert json.loads((arm / "arm.json").read_text())["dataset"] == "tiny"
        assert {row["split"] for row in rows} == {"validation", "test"}
        assert len(rows) == 12
        assert all(0 <= float(row["score"]) <= 1 for row in rows)


@pytest.mark.parametrize("method", ["hinton", "protokd", "aftkd", "discom", "chopra", "margin"])
def test_every_baseline_trains_and_judges_the_same_patients(
    repository: Path, runs: dict[str, Path], data: list[str], tmp_path: Path, method: str
) -> None:
    settings = [f"method={method}", f"teacher={runs['ctpa']}", "ema_decay=0"]
    assert stage(repository, "cmkd", tmp_path / "run", *SHORT, *data, *settings) == 0
    assert [(r["patient"], r["split"]) for r in rows_of(tmp_path / "run")] == [
        (r["patient"], r["split"]) for r in rows_of(runs["ctpa"])
    ]
    log = [json.loads(line) for line in (tmp_path / "run" / "fold-0" / "log.jsonl").read_text().splitlines()]
    assert np.isfinite([entry["loss"] for entry in log]).all()


PRIOR = ["method=prior", "noise_levels=4", "draws=2"]


@pytest.mark.parametrize(
    "settings",
    [
        ["extra_loss=bce"],
        ["extra_loss=protokd", "embedding_scaling=released", "draws=1", "choice=most-similar"],
        ["extra_loss=aftkd", "sampler=ddim", "sample_steps=2", "guidance_scale=2"],
        ["extra_loss=none", "sampler=analytic", "sample_steps=2"],
    ],
    ids=["bce", "protokd", "aftkd", "none"],
)
def test_a_prior_trains_and_is_kept_as_a_second_opinion(
    repository: Path, runs: dict[str, Path], data: list[str], tmp_path: Path, settings: list[str]
) -> None:
    where = [f"teacher={runs['ctpa']}", f"student={runs['cxr']}"]
    sets = [*SHORT, *data, *PRIOR, *where, *settings]
    assert stage(repository, "cmkd", tmp_path / "run", *sets) == 0
    rows = rows_of(tmp_path / "run")
    assert (tmp_path / "run" / "features.npz").is_file()
    reader = load_prior_opinion(tmp_path / "run" / "fold-0" / "second_opinion")
    row = next(row for row in rows if row["split"] == "test")
    image = torch.full((1, 1, 32, 32), float(row["patient"][1:]))
    assert float(reader.logits(image).sigmoid()) == pytest.approx(float(row["score"]), abs=1e-5)
    opinion = reader.score(image)
    assert opinion.calibrated
    assert "prior" in opinion.rests_on
    assert reader.settings.pixels == 32


def test_a_trained_prior_goes_into_a_bundle(
    repository: Path, runs: dict[str, Path], data: list[str], tmp_path: Path
) -> None:
    where = [f"teacher={runs['ctpa']}", f"student={runs['cxr']}", "input=frame"]
    assert stage(repository, "cmkd", tmp_path / "run", *SHORT, *data, *PRIOR, *where) == 0
    opinion = tmp_path / "run" / "fold-0" / "second_opinion"
    sets = [f"bundle={write_tiny_pipeline(tmp_path / 'tiny')}", f"opinion={opinion}"]
    assert stage(repository, "second-opinion", tmp_path / "with", *sets) == 0
    pipeline = XRay2CTPAPipeline.from_pretrained(tmp_path / "with" / "bundle")
    image = torch.rand(1, 1, 32, 32)
    assert pipeline.second_opinion is not None
    expected = load_prior_opinion(opinion).score(image)
    assert pipeline.second_opinion.score(image) == expected


def test_an_opinion_reads_a_radiograph_with_the_greys_of_its_training(
    repository: Path, runs: dict[str, Path], data: list[str], tmp_path: Path
) -> None:
    made = {"pixels": 32, "mean": 0.5, "std": 0.25, "keep_aspect": False, "input": "whole"}
    shutil.copytree(data[1].removeprefix("radiographs="), tmp_path / "cxr")
    (tmp_path / "cxr" / "settings.json").write_text(json.dumps(made))
    where = [f"teacher={runs['ctpa']}", f"student={runs['cxr']}", f"radiographs={tmp_path / 'cxr'}"]
    assert stage(repository, "cmkd", tmp_path / "run", *SHORT, data[0], *PRIOR, *where) == 0
    reader = load_prior_opinion(tmp_path / "run" / "fold-0" / "second_opinion")
    radiograph = Radiograph(np.full((40, 60), 0.75, np.float32), (1.0, 1.0))
    image = reader.image_of(radiograph, FrontalFrame(0, 0, 40))
    assert torch.equal(image, torch.ones(1, 1, 32, 32)), "(0.75 - 0.5) / 0.25, squashed to a square"


def test_a_run_that_is_stopped_between_two_folds_is_no_arm_until_all_are_trained(
    repository: Path, data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["method=ctpa", *[one for one in SHORT if one != "fold=0"], *data]
    sys.path.insert(0, str(repository / "Training"))
    from steps.cmkd import Fold

    whole = Fold.train

    def stopped(fold: Fold, more_folds: bool) -> None:
        if fold.fold == 1:
            raise InputError("Stopped.")
        whole(fold, more_folds)

    with monkeypatch.context() as patched:
        patched.setattr(Fold, "train", stopped)
        assert stage(repository, "cmkd", tmp_path / "run", *settings) != 0
    assert (tmp_path / "run" / "fold-0" / "predictions.csv").is_file()
    assert not (tmp_path / "run" / "arm.json").exists()
    assert stage(repository, "cmkd", tmp_path / "run", *settings) == 0
    judged = [row["patient"] for row in rows_of(tmp_path / "run") if row["split"] == "test"]
    assert sorted(judged) == sorted(f"p{n}" for n in range(18))
    assert (tmp_path / "run" / "arm.json").is_file()


def test_a_run_starts_from_one_on_computed_radiographs(
    repository: Path, data: list[str], tmp_path: Path
) -> None:
    splits = ("train", "train", "valid", "valid", "test", "test")
    pre = write_features(tmp_path / "pre", 12, splits)
    own = ["method=cxr", f"features={pre}", data[1], "folds=0"]
    assert stage(repository, "cmkd", tmp_path / "first", *SHORT, *own) == 0
    start = ["method=cxr", f"start={tmp_path / 'first'}", "learning_rate=1e-12"]
    assert stage(repository, "cmkd", tmp_path / "then", *SHORT, *data, *start) == 0
    # At next to no learning rate the weights stay where they started.
    first, then = weights(tmp_path / "first"), weights(tmp_path / "then" / "fold-0")
    assert all(torch.allclose(first[name], then[name]) for name in first)


def weights(place: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(place / "weights.safetensors")


def test_a_method_without_its_teacher_and_an_unknown_one_are_refused(
    repository: Path, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage(repository, "cmkd", tmp_path / "a", *SHORT, *data, "method=hinton") == 2
    assert "needs teacher" in capsys.readouterr().err
    assert stage(repository, "cmkd", tmp_path / "b", *SHORT, *data, "method=kd") == 2
    assert "method: Input should be 'ctpa', 'cxr'" in capsys.readouterr().err


def write_scans(folder: Path) -> Path:
    """Two scans of six slices; the second's are dealt out over two files."""
    rows = ["id,patient,label,split,folder"]
    for n in range(2):
        place = folder / "cases" / f"s{n}"
        place.mkdir(parents=True)
        hu = np.full((6, 16, 16), -50.0, np.float32)
        hu[:, 4:12, 4:12] = 100.0 * np.arange(1, 7)[:, None, None]
        for part in range(n + 1):
            slices = hu[part :: n + 1]
            volume = Volume(slices, axial_affine(slices.shape, (12.0, 16.0, 16.0)))
            write_volume(volume, place / f"ctpa-{part}.nii.gz", np.int16)
        rows.append(f"s{n},p{n},{n},train,cases/s{n}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize(("encoder", "width"), [("small", 24), ("filling-defects", 20)])
def test_slices_are_encoded_from_foot_to_head_whatever_files_they_lie_in(
    repository: Path, tmp_path: Path, encoder: str, width: int
) -> None:
    ctpa = write_scans(tmp_path / "ctpa")
    small = [s for s in SHORT if s.startswith("small_")]
    sets = [f"ctpa={ctpa}", f"encoder={encoder}", *small, "batch_size=4"]
    assert stage(repository, "slice-features", tmp_path / "out", *sets) == 0
    first, second = (read_slices(case) for case in read_feature_cases(tmp_path / "out"))
    assert first.shape == (6, width)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
    assert (first[1:] - first[:-1]).abs().amax(1).min() > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("s0,p0,0,,features/s0.npy", "s0,p0,2,,features/s0.npy"), "label of 0 or 1"),
        (("features/s0.npy", "features/none.npy"), "no such file"),
        (("id,patient", "name,patient"), "got no id"),
    ],
)
def test_a_table_of_features_that_is_none_is_refused_with_its_row(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    table = write_features(tmp_path / "slices", 3) / "features.csv"
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(InputError, match=f"(?s){says}.*row 1|row 1.*{says}"):
        read_feature_cases(table.parent)


def test_features_that_are_no_matrix_are_refused(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "slices", 2)
    np.save(folder / "features" / "s0.npy", np.full((3, 2), np.nan))
    with pytest.raises(InputError, match=r"finite slice features .* s0\.npy|s0\.npy"):
        read_slices(read_feature_cases(folder)[0])


def test_the_recipes_have_every_method_at_the_papers_settings(repository: Path, tmp_path: Path) -> None:
    read_definitions(repository / "Training" / "configs" / "cmkd-tables.json")
    for name in ("cmkd", "virtual-cmkd"):
        steps = [step for step in read(repository, name, tmp_path).steps if step.kind == "cmkd"]
        configs = {step.name: step.settings for step in steps}
        assert {config.method for config in configs.values()} == {
            "ctpa", "cxr", "hinton", "protokd", "aftkd", "chopra", "margin", "discom", "prior",
        }  # fmt: skip
        assert all(config.folds == 6 for config in configs.values())
        if name == "cmkd":
            assert (configs["prior"].learning_rate, configs["prior"].batch_size) == (1.1e-4, 64)
            assert configs["discom"].batch_size == 128
            assert configs["prior-analytic"].sample_steps == 64


def test_every_row_of_the_tables_is_filled_by_a_step_of_the_recipe(repository: Path, tmp_path: Path) -> None:
    rows = [
        row
        for table in read_definitions(repository / "Training" / "configs" / "cmkd-tables.json")
        for row in table.rows
    ]
    found = read(repository, "cmkd", tmp_path)
    made = {step.settings.name for step in found.steps if step.kind == "cmkd"}
    assert {row.arm for row in rows} - made == {"prior-pretrained", "signs"}
    assert "prior-pretrained" in {step.settings.name for step in found.others if step.kind == "cmkd"}


def test_rows_of_other_sizes_and_of_pre_training_are_trained_by_the_recipe(
    repository: Path, data: list[str], tmp_path: Path
) -> None:
    """On computed radiographs first, whose split is given; then folds go on from there."""
    splits = ("train", "train", "valid", "valid", "test", "test")
    computed = write_features(tmp_path / "computed", 18, splits)

    def run(out: Path, features: str, more: list[str], *steps: str) -> None:
        sets = ["run.encoder=small"]
        for base in ("teacher", "student", "prior-l2"):
            sets += [f"{base}.{change}" for change in SHORT]
            sets += [f"{base}.{change}" for change in (f"features={features}", data[1])]
        sets += ["teacher.architecture=small", "teacher.warmup=0", "student.warmup=0", "prior-l2.warmup=0"]
        sets += ["prior-l2.prior_preset=small", "prior-l2.ema_decay=0", "prior-l2.noise_levels=4"]
        words = ["--data", str(tmp_path), "--only", *steps, "--set", *sets, *more]
        assert recipe(repository, "cmkd", out, *words) == 0

    once = [f"{step}.folds=0" for step in ("teacher", "student", "prior-l2")]
    run(tmp_path / "before", str(computed), once, "teacher", "student", "prior-l2")
    out, features = tmp_path / "run", data[0].removeprefix("features=")
    wide = ["teacher-1024.embedding_dim=32", "student-1024.embedding_dim=32"]
    run(out, features, wide, "teacher-1024", "student-1024", "prior-1024")
    still = [f"run.pretrained={tmp_path / 'before'}"]
    still += [f"{step}-pretrained.learning_rate=1e-12" for step in ("teacher", "student", "prior")]
    run(out, features, still, "teacher-pretrained", "student-pretrained", "prior-pretrained")
    opinion = load_prior_opinion(out / "prior-1024" / "fold-0" / "second_opinion").network
    assert len(opinion.readout.scaling.shift) == 32
    for before, then in (("teacher", "teacher"), ("student", "student"), ("prior-l2", "prior")):
        first = weights(tmp_path / "before" / before)
        last = weights(out / f"{then}-pretrained" / "fold-0")
        assert all(torch.allclose(first[name], last[name]) for name in first)
