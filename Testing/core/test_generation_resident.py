"""The resident worker: the jobs of `generate`, one after another, with its results, errors and end."""

import json
import os
import signal
import stat
import subprocess
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import io_radiographs as radiographs
import psutil
import pytest
from cli_runs import assert_refused, names, xray2ctpa
from resident_runs import Owner, owner_of, reads_until, within

from xray2ctpa_core.generation.held_pipeline import HeldPipeline
from xray2ctpa_core.generation.settings import Wishes
from xray2ctpa_core.pipelines.bundle import verify_bundle

VOLUMES = ["ctpa.nii.gz", "gradcam.nii.gz", "gradcam-label.nii.gz"]
STAGES = ["verify", "read", "load", "generate", "finish", "write"]


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, pipeline_bundle: Path) -> Iterator[Owner]:
    folder = tmp_path_factory.mktemp("resident")
    radiograph = radiographs.write_dicom(
        folder / "radiograph.dcm", ImagerPixelSpacing=list(radiographs.SPACING)
    )
    with owner_of(folder / "run", radiograph, pipeline_bundle) as owner:
        yield owner


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_a_job_has_the_voxels_events_and_paths_of_generate(owner: Owner, place: Path) -> None:
    arguments = ("generate", owner.radiograph, "--bundle", owner.bundle, "--seed", 3, "--force", "--events")
    plain = xray2ctpa(*arguments, "--out", "plain", cwd=place)
    first, second = (owner.run("--out", name, "--events", cwd=place) for name in ("first", "second"))
    assert names(place) == ["first", "plain", "second"]
    for name in VOLUMES:
        voxels = {(place / folder / name).read_bytes() for folder in ("plain", "first", "second")}
        assert len(voxels) == 1, name
    told = [[json.loads(line) for line in run.stdout.splitlines()] for run in (plain, first, second)]
    assert [e["event"] for e in told[0]] == [e["event"] for e in told[1]] == [e["event"] for e in told[2]]
    assert [e["stage"] for e in told[2] if e["event"] == "stage"] == STAGES
    assert [events[-1]["path"] for events in told] == ["plain", "first", "second"]
    assert plain.stderr == first.stderr == second.stderr
    record = json.loads((place / "second" / "result.json").read_text())
    assert record["sampling"]["seconds"]["load"] < 0.5


def test_the_socket_is_for_this_user_alone_and_no_port_is_open(owner: Owner, place: Path) -> None:
    assert owner.run("--out", "a", cwd=place).returncode == 0
    assert stat.S_IMODE(owner.folder.stat().st_mode) == 0o700
    assert [c for c in owner.worker().net_connections() if c.status == psutil.CONN_LISTEN] == []


def test_errors_and_exit_codes_are_those_of_generate(owner: Owner, place: Path) -> None:
    (place / "notes.png").write_text("no radiograph")
    missing = owner.run("--out", "a", "--device", "cpu", "--precision", "fp16", cwd=place)
    assert_refused(missing, 5, "fp16")
    batch = subprocess.run(
        [
            *owner.command()[:3],
            "generate",
            place / "notes.png",
            place / "none.dcm",
            *owner.command("--out", "batch")[4:],
        ],
        cwd=place,
        env=owner.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert batch.returncode == 2
    assert batch.stderr.count("Error: ") == 2
    assert names(place / "batch") == ["radiograph"]
    assert_refused(owner.run("--out", "b", "--bundle", place, cwd=place), 3)
    assert owner.run("--out", "c", cwd=place).returncode == 0


def test_the_worker_outlives_a_killed_client_and_nothing_is_left_of_its_job(
    owner: Owner, place: Path
) -> None:
    assert owner.run("--out", "a", cwd=place).returncode == 0
    worker = owner.worker()
    run = owner.begin("--out", "b", "--steps", 200, cwd=place)
    reads_until("generate", run)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert within(10, lambda: names(place) == ["a"])
    assert owner.run("--out", "c", cwd=place).returncode == 0
    assert owner.worker() == worker


def test_cancelling_exits_with_130_when_nothing_is_left(owner: Owner, place: Path) -> None:
    run = owner.begin("--out", "a", "--steps", 200, cwd=place)
    reads_until("generate", run)
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate()
    assert (run.returncode, names(place)) == (130, [])
    assert "Error: Cancelled; nothing unfinished was left behind." in err
    assert json.loads(out.splitlines()[-1])["code"] == 130


def test_a_second_job_waits_says_so_and_is_done(owner: Owner, place: Path) -> None:
    first = owner.begin("--out", "a", "--steps", 100, cwd=place)
    reads_until("generate", first)
    second = owner.begin("--out", "b", cwd=place)
    reads_until("wait", second)
    assert first.communicate()[0].splitlines()[-1].startswith('{"event": "result"')
    assert second.communicate()[0].splitlines()[-1].startswith('{"event": "result"')
    assert names(place) == ["a", "b"]


def test_a_killed_worker_is_named_and_whoever_waited_gets_another(owner: Owner, place: Path) -> None:
    first = owner.begin("--out", "a", "--steps", 200, cwd=place)
    reads_until("generate", first)
    second = owner.begin("--out", "b", cwd=place)
    reads_until("wait", second)
    killed = owner.worker()
    killed.kill()
    out, err = first.communicate()
    assert first.returncode == 5
    assert "The resident worker ended amid this job" in err
    assert json.loads(out.splitlines()[-1])["code"] == 5
    second.communicate()
    assert second.returncode == 0
    assert within(10, lambda: names(place) == ["b"])
    assert owner.worker() != killed


def test_without_a_place_for_the_socket_the_command_generates_by_itself(owner: Owner, place: Path) -> None:
    run = subprocess.run(
        owner.command("--out", "a"),
        cwd=place,
        env=owner.environment | {"XRAY2CTPA_RUNTIME": str(place / "none" / "such")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Warning: Going on without a resident worker" in run.stderr
    assert names(place) == ["a"]


def test_a_worker_to_which_nothing_comes_ends_and_leaves_nothing(
    short: Path, owner: Owner, place: Path
) -> None:
    with owner_of(short / "own", owner.radiograph, owner.bundle) as idle:
        worker = idle.serve("--idle", 10 / 60)
        assert idle.run("--out", "a", cwd=place).returncode == 0
        assert worker.wait(timeout=60) == 0
        assert list(idle.runtime.iterdir()) == []


def test_a_dropped_pipeline_is_gone_and_one_that_is_held_is_the_same(pipeline_bundle: Path) -> None:
    held, info = HeldPipeline(), verify_bundle(pipeline_bundle)
    settings = Wishes(device="cpu").settings(info)
    first, used = held.get(pipeline_bundle, info, settings)
    assert (used.device, used.precision) == ("cpu", "fp32")
    assert held.get(pipeline_bundle, info, replace(settings, scheduler="ddim"))[0] is first
    held.get(pipeline_bundle, info, settings)
    assert type(first.scheduler).__name__ == "DPMSolverMultistepScheduler", "the bundle's own again"
    alive = weakref.ref(first)
    del first
    held.drop()
    assert alive() is None


def test_the_worker_ends_amid_a_job_when_its_owner_does(short: Path, owner: Owner, place: Path) -> None:
    with owner_of(short / "own", owner.radiograph, owner.bundle) as mortal:
        run = mortal.begin("--out", "a", "--steps", 200, cwd=place)
        reads_until("generate", run)
        worker = mortal.worker()
        mortal.end()
        assert within(10, lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
        run.communicate()
    assert within(10, lambda: names(place) == [])
