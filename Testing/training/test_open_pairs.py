"""Open pairs from a store in the collections' own layout to three systems' table, killed and gone on with."""

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch

pytest.importorskip("diffdrr", reason="computed radiographs come with the training extra")

from commons import fetch_until_killed, killed, prepare_until_killed, write_index, write_store
from stage_scripts import module_of, read, recipe, with_steps
from test_paper_chain import ENVIRONMENT, run_until

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.open_pairs import SCHEMA_FILE
from xray2ctpa_core.models.encoders.published import PublishedEncoder
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.pipelines.loading import EMBEDDED

#: Two of each of the splits train and test, one of validation; the sixth's CT is damaged.
PATIENTS = ("P0", "P7", "P1", "P2", "A00", "P8")


def one_step(steps: str, *more: str) -> list[str]:
    """Settings of training steps that make one optimiser step of two cases."""
    common = ("steps=1", "batch_size=2", "log_every=1", "tensorboard=false", "precision=no", *more)
    return [f"{step}.{change}" for step in steps.split() for change in common]


PAPER = ["width=8", "multipliers=[1,2]", "heads=2", "groups=4", "embedding_dim=32"]
#: Each recipe small: what differs from the sizes that it trains.
SMALL = {
    "open-pairs": [
        "ctpa.shape=[16,32,32]", "ctpa.spacing_mm=4.0", "ctpa.workers=1", "radiographs.variants=1",
        "radiographs.workers=1", "drr.pixels=64", "drr.workers=1",
        *one_step("autoencoder", "channels=[48]"),
        *one_step("drr-encoder xray-encoder", "channels=[8,8,8,8]"),
        *one_step("denoiser", "channels=[8,8]"),
        "pack.steps=2", "evaluation.samples=2",
    ],
    "x-ray2ctpa-open-pairs": [
        "run.workers=1", "ctpa.shape=[16,32,32]", "ctpa.spacing_mm=4.0", "cxr.pixels=64", "drr.pixels=64",
        *one_step("unconditional", *PAPER),
        *one_step("drr-denoiser denoiser", "encoder=small", "discriminator_layers=2",
                  "discriminator_width=8"),
        "pack.steps=2", "generated.scheduler=ddim", "generated.steps=2",
        "evaluation.samples=2",
    ],
    "xctdiff-open-pairs": [
        "run.workers=1", "ctpa.shape=[32,32,32]", "ctpa.spacing_mm=8.0", "cxr.pixels=32", "drr.pixels=64",
        "drr-frames.pixels=32",
        *one_step("vqgan", "crop=[32,32,32]", "channels=[8,8,8]", "blocks=1", "latent_channels=4", "codes=64",
                  "perceptual_slices=1", "discriminator_layers=2", "discriminator_width=8"),
        *one_step("drr-encoder progressive-encoder", "width=16", "blocks=1", "depth=8", "lifted_channels=8",
                  "inner_channels=8", "latent_channels=4", "codes=64", "groups=8"),
        *one_step("prior-denoiser", *PAPER[:-1]), "pack.steps=2", "table-1.sampling_steps=2",
        "evaluation.samples=2",
    ],
}  # fmt: skip


def trained(repository: Path, name: str, cohort: Path, out: Path, *more: str) -> Path:
    """The bundle of a recipe's run."""
    assert recipe(repository, name, out, "--data", str(cohort), "--set", *SMALL[name], *more) == 0
    return out / "pack"


@pytest.mark.slow
def test_from_dicom_of_six_patients_to_the_table_of_three_systems(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = module_of(repository, "open_pairs.py")
    store, cohort = tmp_path / "store", tmp_path / "cohort"
    store.mkdir()
    series = write_store(store, PATIENTS, corrupt="P8", no_chest="")
    index = write_index(tmp_path / "index.parquet", series)
    assert script.main(["select", str(cohort), "--index", str(index)]) == 0
    assert "6 pairs of 6 patients (2 train, 1 validation, 3 test)" in capsys.readouterr().out

    assert killed(fetch_until_killed, cohort, store, 4)
    assert script.main(["fetch", str(cohort), "--store", str(store)]) == 0
    assert "12 of 12 series are there, 4 of them from before" in capsys.readouterr().out
    locator = EMBEDDED / "virtual-thorax" / "lung_locator"
    assert killed(prepare_until_killed, cohort, locator, 2)
    assert script.main(["prepare", str(cohort), "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "5 studies" in said.out
    assert "2 of them checked before" in said.out
    assert "P8" in said.err
    assert "No label says" in said.out

    runs = {name: tmp_path / "runs" / name for name in SMALL}
    log = tmp_path / "log.txt"
    command = [
        sys.executable, str(repository / "Training" / "train.py"), "open-pairs", "--one-process",
        "--data", str(cohort), "--out", str(runs["open-pairs"]), "--set", *SMALL["open-pairs"],
    ]  # fmt: skip
    run_until(command, runs["open-pairs"] / "ctpa" / "cases.csv", log)
    assert not (runs["open-pairs"] / "pack").exists()
    bundles = [trained(repository, "open-pairs", cohort, runs["open-pairs"])]
    codec, encoder = runs["open-pairs"] / "autoencoder" / "autoencoder", tmp_path / "radiograph-encoder"
    PublishedEncoder(
        "small", {"init_features": 8, "growth_rate": 4, "block_config": (2, 2)}, 32
    ).save_pretrained(encoder)
    weights = [f"run.codec={codec}", f"run.encoder_weights={encoder}"]
    bundles.append(
        trained(repository, "x-ray2ctpa-open-pairs", cohort, runs["x-ray2ctpa-open-pairs"], *weights)
    )
    bundles.append(trained(repository, "xctdiff-open-pairs", cohort, runs["xctdiff-open-pairs"]))
    for name, bundle in zip(SMALL, bundles, strict=True):
        made = json.loads((bundle / "bundle.json").read_text())
        whole = name == "x-ray2ctpa-open-pairs"  # reads no frame that a volume's size could follow from
        assert ("extent_mm" in made["geometry"]) == whole
        assert made["licence"] == "CC BY 4.0"

    words = ["evaluate", "--open-pairs", str(cohort), "--samples", "2", "--out", str(tmp_path / "table")]
    words += [word for bundle in bundles for word in ("--bundle", str(bundle))]
    run_until([sys.executable, "-m", "xray2ctpa_core", *words], tmp_path / "table" / "rows.jsonl", log)
    assert not (tmp_path / "table" / "evaluation.json").exists()
    assert main(words) == 0
    summary = json.loads((tmp_path / "table" / "evaluation.json").read_text())
    jsonschema.validate(summary, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    (pairs,) = summary["open_pairs"]
    with (cohort / "studies.csv").open() as file:
        tested = [row["id"] for row in csv.DictReader(file) if row["split"] == "test"]
    assert pairs["pairs"] == tested
    assert len(tested) == 2
    assert {entry["bundle"] for entry in pairs["matches"]} == set(SMALL)
    assert {entry["bundle"] for entry in pairs["organs"]} == set(SMALL)


def test_an_encoder_begins_with_the_weights_of_one_of_its_own_shape(repository: Path, tmp_path: Path) -> None:
    with_steps(repository)
    begin_with = importlib.import_module("steps.pairs").begin_with
    channels = {"channels": (8, 8, 8, 8), "latent_grid": (8, 8, 8)}
    trained, ours = (XrayEncoder(**channels, embedding_dim=16) for _ in range(2))
    trained.save_pretrained(tmp_path)
    name, weight = next(item for item in trained.state_dict().items() if item[1].std() > 0)
    assert not torch.equal(ours.state_dict()[name], weight)
    begin_with(ours, tmp_path)
    assert torch.equal(ours.state_dict()[name], weight)
    with pytest.raises(ConfigError, match="an encoder of the same shape"):
        begin_with(XrayEncoder(**channels, embedding_dim=24), tmp_path)


@pytest.mark.slow
def test_one_unit_of_each_step_is_measured_and_the_cost_follows(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = write_store(tmp_path / "store", PATIENTS, corrupt="", no_chest="")
    index = write_index(tmp_path / "index.parquet", series)
    cohort, run = tmp_path / "cohort", tmp_path / "run"
    script, measure = module_of(repository, "open_pairs.py"), module_of(repository, "measure_recipe.py")
    assert script.main(["select", str(cohort), "--index", str(index)]) == 0
    assert script.main(["fetch", str(cohort), "--store", str(tmp_path / "store")]) == 0
    assert script.main(["prepare", str(cohort), "--workers", "1"]) == 0
    words = ["open-pairs", "--data", str(cohort), "--out", str(run), "--set", *SMALL["open-pairs"]]
    assert measure.main(words) == 0
    found = json.loads((run / measure.MEASURED_FILE).read_text())["steps"]
    expected = [
        "ctpa", "radiographs", "drr", "drr-frames", "autoencoder", "drr-latents", "latents", "drr-encoder",
        "xray-encoder", "denoiser", "pack",
    ]  # fmt: skip
    assert list(found) == expected
    assert all(entry["seconds"] > 0 and entry["megabytes"] > 0 for entry in found.values())
    assert found["pack"]["sampling_step_seconds"] >= 0
    capsys.readouterr()
    assert script.main(["cost", str(cohort), "--measured", str(run / measure.MEASURED_FILE)]) == 0
    said = capsys.readouterr().out
    assert "not measured" not in said.replace("on a GPU: not measured", "")


def made(repository: Path, *more: str) -> str:
    """What make would run."""
    words = ["make", "-n", "train-open-pairs", "OUT=run", "--assume-old=.venv/.installed-all", *more]
    return subprocess.run(
        words, cwd=repository, capture_output=True, text=True, env=ENVIRONMENT, check=True
    ).stdout


def test_one_command_selects_says_the_cost_fetches_prepares_and_trains(repository: Path) -> None:
    said = made(repository, "COHORT=cohort", "SELECT=--angiography", "FETCH=--first 20")
    steps = ["select", "cost", "fetch", "prepare"]
    places = [said.index(f"open_pairs.py {step}") for step in steps]
    assert places == sorted(places)
    assert places[-1] < said.index("Training/train.py")
    assert said.count('test "cohort/studies.csv" -nt "cohort/pairs.csv" ||') == 2, (
        "another selection is prepared"
    )
    assert 'select "cohort" --angiography' in said
    assert 'fetch "cohort" --first 20' in said


@pytest.mark.parametrize("name", list(SMALL))
def test_a_recipe_ends_with_the_protocols_table_beside_the_shipped_bundle(
    repository: Path, tmp_path: Path, name: str
) -> None:
    last = read(repository, name, tmp_path, f"run.data={tmp_path / 'cohort'}").steps[-1]
    assert (last.name, last.kind) == ("evaluation", "evaluate")
    assert last.settings.open_pair_cohorts == (str(tmp_path / "cohort"),)
    assert last.settings.bundles == (str(tmp_path / "pack"), "virtual-thorax")
