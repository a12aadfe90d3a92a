"""The whole of the papers' system, killed and gone on with; two processes that train as one."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("diffdrr", reason="computed radiographs come with the training extra")

from latent_data import read_all, write_latents
from virtual_study import write_phantom_study

from xray2ctpa_core.pipelines.loading import load_denoiser

#: One thread each: the processes of a test shall not fight for two cores.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ARMS = {
    "classifier", "cxr-classifier", "slice-classifier", "generated", "classifier-on-generated",
    "slice-classifier-on-generated",
}  # fmt: skip


def chain(repository: Path, name: str, data: Path, out: Path) -> list[str]:
    script = str(repository / "Training" / "train.py")
    return [
        sys.executable, script, name, "--one-process", "--data", str(data), "--out", str(out),
        "--set", "run.workers=1",
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


def tables_of(out: Path) -> dict[str, str]:
    """The text of each table."""
    return {path.name: path.read_text(encoding="utf-8") for path in out.glob("tables/table-*.csv")}


@pytest.mark.slow
def test_killed_and_resumed_the_chain_ends_with_the_same_numbers(repository: Path, tmp_path: Path) -> None:
    """From DICOM to tables; killed amid the denoiser and amid sampling. The stages from the denoiser on are
    then run again without a kill."""
    write_phantom_study(tmp_path / "data", 6)
    out, log = tmp_path / "run", tmp_path / "log.txt"
    command = chain(repository, "smoke", tmp_path / "data", out)
    run_until(command, out / "denoiser" / "checkpoint" / "3" / "progress.json", log)
    assert not (out / "denoiser" / "denoiser").exists()
    run_until(command, out / "generated" / "latents" / "000003.npy", log)
    assert not (out / "generated" / "index.csv").exists()
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.parent.name for path in out.glob("*/arm.json")} == ARMS
    killed, latents, tables = results(out), read_all(out / "generated"), tables_of(out)
    assert len(tables) == 7
    for name in (
        "denoiser",
        "generated",
        "classifier-on-generated",
        "slice-classifier-on-generated",
        "tables",
    ):
        (out / name).rename(tmp_path / name)
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert results(out) == killed
    assert tables_of(out) == tables
    assert np.array_equal(read_all(out / "generated"), latents)
    rows = killed["classifier-on-generated"]
    assert rows[0] == ["patient", "fold", "split", "label", "score"]
    assert {row[2] for row in rows[1:]} == {"validation", "test"}


@pytest.mark.slow
def test_the_chain_runs_on_the_vqgan_as_codec(repository: Path, tmp_path: Path) -> None:
    write_phantom_study(tmp_path / "data", 12)
    out = tmp_path / "run"
    command = chain(repository, "smoke-vqgan", tmp_path / "data", out)
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "tables" / "table-2.md").is_file()
    assert {path.parent.name for path in out.glob("*/arm.json")} == ARMS
    names = {name: json.loads((out / name / "arm.json").read_text())["name"] for name in ARMS}
    assert names["generated"] == names["classifier-on-generated"] == "codec-vqgan"
    last = json.loads((out / "vqgan" / "log.jsonl").read_text().splitlines()[-1])
    assert last["perplexity"] > 1
    assert not (out / "autoencoder").exists()
    real, made = (read_all(out / name) for name in ("latents", "generated"))
    assert real.shape == made.shape == (24, 4, 8, 8, 8)
    assert np.isfinite(made).all()
    assert len(list((out / "generated" / "volumes").glob("*.nii.gz"))) == 24
    assert len(results(out)["classifier-on-generated"]) > 1


#: Settings of a denoiser in shards or whole, with an opponent.
TWO_PLAYERS = [
    "steps=6", "labels=true", "adversarial_weight=0.1", "discriminator_layers=2", "discriminator_width=8",
    "tensorboard=false",
]  # fmt: skip


def denoise(repository: Path, out: Path, *arguments: str, launch: tuple[str, ...] = ()) -> None:
    """Trains the smoke denoiser with two players on the CPU; in two processes where it is launched."""
    sets = [f"unconditional.{change}" for change in (*TWO_PLAYERS, *arguments)]
    script = str(repository / "Training" / "train.py")
    words = [script, "smoke", "--only", "unconditional", "--out", str(out), "--set", *sets]
    if launch:
        words = [
            "-m", "accelerate.commands.launch", *launch, "--num_processes", "2", "--num_machines", "1",
            "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", *words,
        ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def curves(out: Path) -> list[list[float]]:
    """The losses of both players, a row a step."""
    lines = [json.loads(line) for line in (out / "unconditional" / "log.jsonl").read_text().splitlines()]
    return [[line[key] for key in ("loss", "l1", "adversarial", "opponent")] for line in lines]


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(repository: Path, tmp_path: Path) -> None:
    sets = [f"latents={write_latents(tmp_path / 'latents')}", "ema_decay=0"]
    one, two = tmp_path / "one", tmp_path / "two"
    denoise(repository, one, *sets, "batch_size=4")
    denoise(repository, two, *sets, "batch_size=2", launch=("--multi_gpu",))
    assert len(curves(one)) == 6
    assert np.allclose(curves(two), curves(one), rtol=1e-4)
    assert not np.allclose(curves(one)[0], curves(one)[-1], rtol=1e-2)


@pytest.mark.slow
def test_two_processes_with_half_the_denoiser_each_train_as_one(repository: Path, tmp_path: Path) -> None:
    """FSDP: the same losses, the same averaged weights in one piece, and the same again from a checkpoint."""
    sets = [f"latents={write_latents(tmp_path / 'latents')}", "ema_decay=0.5"]
    one, shards = tmp_path / "one", tmp_path / "shards"
    launch = ("--use_fsdp", "--fsdp_version", "2")
    denoise(repository, one, *sets, "batch_size=4")
    denoise(repository, shards, *sets, "batch_size=2", launch=launch)
    assert np.allclose(curves(shards), curves(one), rtol=1e-4)
    assert (shards / "unconditional" / "checkpoint" / "3" / "pytorch_model_fsdp_0" / "__1_0.distcp").is_file()
    whole, gathered = (
        load_denoiser(out / "unconditional" / "denoiser").state_dict() for out in (one, shards)
    )
    for name, weight in whole.items():
        assert torch.allclose(gathered[name], weight, atol=1e-5), name
    shutil.rmtree(shards / "unconditional" / "denoiser")
    denoise(repository, shards, *sets, "batch_size=2", launch=launch)
    assert curves(shards)[6:] == curves(shards)[3:6]
    resumed = load_denoiser(shards / "unconditional" / "denoiser").state_dict()
    assert all(torch.equal(resumed[name], weight) for name, weight in gathered.items())
