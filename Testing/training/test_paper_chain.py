"""The whole of the papers' system, killed and gone on with; two processes that train as one."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffdrr", reason="computed radiographs come with the training extra")

from latent_data import write_latents
from virtual_study import write_phantom_study

#: One thread each: the processes of a test shall not fight for two cores.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ARMS = {
    "classifier", "cxr-classifier", "slice-classifier", "generated", "classifier-on-generated",
    "slice-classifier-on-generated",
}  # fmt: skip


def chain(repository: Path, data: Path, out: Path) -> list[str]:
    script = str(repository / "Training" / "train_paper.py")
    return [
        sys.executable, script, "--one-process", "--preset", "smoke", "--data", str(data), "--out", str(out),
        "--workers", "1",
    ]  # fmt: skip


def run_until(command: list[str], there: Path, log: Path) -> None:
    """Runs ``command`` and kills it, as a power cut would, as soon as ``there`` exists."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=ENVIRONMENT)
        deadline = time.monotonic() + 900
        while not there.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert there.exists(), log.read_text()[-3000:]


def results(out: Path) -> dict[str, list[list[str]]]:
    """All predictions of all arms."""
    found = {}
    for path in sorted(out.glob("*/predictions.csv")):
        with path.open() as file:
            found[path.parent.name] = list(csv.reader(file))
    return found


@pytest.mark.slow
def test_killed_and_resumed_the_chain_ends_with_the_same_numbers(repository: Path, tmp_path: Path) -> None:
    """From DICOM to predictions; killed amid the denoiser and amid sampling. The stages from the denoiser on
    are then run again without a kill."""
    write_phantom_study(tmp_path / "data", 6)
    out, log = tmp_path / "run", tmp_path / "log.txt"
    command = chain(repository, tmp_path / "data", out)
    run_until(command, out / "denoiser" / "checkpoint" / "3" / "progress.json", log)
    assert not (out / "denoiser" / "denoiser").exists()
    run_until(command, out / "generated" / "parts" / "000003.npy", log)
    assert not (out / "generated" / "index.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (out / "slice-classifier-on-generated" / "arm.json").is_file(), done.stderr[-3000:]
    assert {path.parent.name for path in out.glob("*/arm.json")} == ARMS
    killed, latents = results(out), np.load(out / "generated" / "latents.npy")
    for name in ("denoiser", "generated", "classifier-on-generated", "slice-classifier-on-generated"):
        (out / name).rename(tmp_path / name)
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (out / "slice-classifier-on-generated" / "arm.json").is_file(), done.stderr[-3000:]
    assert results(out) == killed
    assert np.array_equal(np.load(out / "generated" / "latents.npy"), latents)
    rows = killed["classifier-on-generated"]
    assert rows[0] == ["patient", "fold", "split", "label", "score"]
    assert {row[2] for row in rows[1:]} == {"validation", "test"}


@pytest.mark.slow
def test_the_chain_runs_on_the_vqgan_as_codec(repository: Path, tmp_path: Path) -> None:
    write_phantom_study(tmp_path / "data", 12)
    out = tmp_path / "run"
    command = [*chain(repository, tmp_path / "data", out), "--codec", "vqgan"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "tables" / "table-2.md").is_file()
    assert {path.parent.name for path in out.glob("*/arm.json")} == ARMS
    names = {name: json.loads((out / name / "arm.json").read_text())["name"] for name in ARMS}
    assert names["generated"] == names["classifier-on-generated"] == "codec-vqgan"
    last = json.loads((out / "vqgan" / "log.jsonl").read_text().splitlines()[-1])
    assert last["perplexity"] > 1
    assert not (out / "autoencoder").exists()
    real, made = (np.load(out / name / "latents.npy") for name in ("latents", "generated"))
    assert real.shape == made.shape == (24, 4, 8, 8, 8)
    assert np.isfinite(made).all()
    assert len(list((out / "generated" / "volumes").glob("*.nii.gz"))) == 24
    assert len(results(out)["classifier-on-generated"]) > 1


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(repository: Path, tmp_path: Path) -> None:
    latents = write_latents(tmp_path / "latents")
    script = str(repository / "Training" / "train_paper_denoiser.py")
    config = str(repository / "Training" / "configs" / "smoke-unconditional-denoiser.json")
    sets = [
        f"latents={latents}",
        "steps=6",
        "labels=true",
        "adversarial_weight=0.1",
        "discriminator_layers=2",
    ]
    sets += ["discriminator_width=8", "tensorboard=false", "ema_decay=0"]
    stage = [script, "--config", config, "--set", *sets]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0"]
    environment = ENVIRONMENT | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    runs = {"one": ([sys.executable, *stage], 4), "two": ([*launch, *stage], 2)}
    curves = {}
    for name, (command, cases) in runs.items():
        words = [*command, f"batch_size={cases}", "--out", str(tmp_path / name)]
        done = subprocess.run(
            words, capture_output=True, text=True, env=environment, check=False, timeout=900
        )
        assert done.returncode == 0, done.stderr[-3000:]
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        curves[name] = [
            [json.loads(line)[k] for k in ("loss", "l1", "adversarial", "opponent")] for line in lines
        ]
    assert len(curves["one"]) == 6
    assert np.allclose(curves["two"], curves["one"], rtol=1e-4)
    assert not np.allclose(curves["one"][0], curves["one"][-1], rtol=1e-2)
