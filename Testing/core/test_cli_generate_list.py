"""`xray2ctpa generate --list`: many radiographs, here or on a cluster, one of whose workers may die."""

import csv
import json
import platform
import signal
import subprocess
import time
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import psutil
import pytest
from cli_runs import COMMAND, ENVIRONMENT, assert_refused, names, xray2ctpa

from xray2ctpa_core.io.result_files import ALWAYS

BESIDE = {"index.csv", "errors.jsonl"}


def several(folder: Path, count: int) -> list[str]:
    """Writes that many different radiographs; returns their names."""
    folder.mkdir(parents=True)
    for number in range(count):
        radiographs.write_dicom(
            folder / f"r{number}.dcm", np.roll(radiographs.quantised(12), number, axis=1).copy()
        )
    return [f"r{number}.dcm" for number in range(count)]


def arguments(bundle: Path, *more: object) -> tuple[object, ...]:
    flags = ("--bundle", bundle, "--steps", 1, "--device", "cpu", "--force")
    return ("generate", "--list", "list.txt", "--out", "out", *flags, *more)


def complete(out: Path) -> list[Path]:
    """The result folders, all of them whole; nothing else may lie beside them."""
    folders = [out / name for name in names(out) if name not in BESIDE]
    for folder in folders:
        assert set(ALWAYS) <= set(names(folder)), f"{folder} is partial"
    return folders


def records(out: Path) -> list[dict[str, object]]:
    return [json.loads((folder / "result.json").read_text()) for folder in complete(out)]


@pytest.mark.slow
def test_a_list_gives_a_folder_each_an_index_and_the_failures_wherever_it_is_done(
    tmp_path: Path, pipeline_bundle: Path
) -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra cluster brings Dask")
    radiographs_here, radiographs_below = several(tmp_path / "a", 2), several(tmp_path / "a" / "b", 1)
    (tmp_path / "a" / "notes.png").write_text("no radiograph")
    lines = [
        "# mine",
        *(f"a/{name}" for name in radiographs_here),
        f"a/b/{radiographs_below[0]}",
        "",
        "a/notes.png",
        "a/r0.dcm",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")

    here = xray2ctpa(*arguments(pipeline_bundle), cwd=tmp_path)
    (tmp_path / "out").rename(tmp_path / "here")
    there = xray2ctpa(*arguments(pipeline_bundle, "--cluster", "local:2", "--events"), cwd=tmp_path)

    for run in (here, there):
        assert run.returncode == 2, run.stderr
        summary = run.stderr.splitlines()[-3:]
        assert summary[0].startswith("3 of 4 results are complete: ")
        assert summary[1].startswith("1 failed: ")
        assert summary[2].startswith(f"  {tmp_path / 'a' / 'notes.png'}: Expected a PNG")
    assert names(tmp_path / "here") == names(tmp_path / "out")
    for folder in complete(tmp_path / "here"):
        for name in ("ctpa.nii.gz", "gradcam.nii.gz"):
            assert (folder / name).read_bytes() == (tmp_path / "out" / folder.name / name).read_bytes()
    with (tmp_path / "out" / "index.csv").open(newline="") as file:
        rows = {row["radiograph"]: row["result"] for row in csv.DictReader(file)}
    assert list(rows) == [str(tmp_path / "a" / name) for name in ("b/r0.dcm", "r0.dcm", "r1.dcm")]
    assert {r["input"]["name"] for r in records(tmp_path / "out")} == {"r0.dcm", "r1.dcm"}
    made_on = [r["sampling"]["made_on"] for r in records(tmp_path / "out")]
    assert {place["worker"] for place in made_on} <= {"0", "1"}
    assert {place["host"] for place in made_on} == {platform.node()}
    told = [json.loads(line) for line in there.stdout.splitlines()]
    assert [e["step"] for e in told if e["event"] == "progress"] == [1, 2, 3, 4]
    assert [e["code"] for e in told if e["event"] == "error"] == [2]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--list", "none.txt", "--out", "o"), "none.txt"),
        (("--list", "none.txt"), "--out with --list"),
        (("a.png", "--list", "none.txt", "--out", "o"), "got both or neither"),
        (("a.png", "--cluster", "local:2"), "--list with --cluster"),
        ((), "got both or neither"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: tuple[str, ...], says: str, tmp_path: Path) -> None:
    assert_refused(xray2ctpa("generate", *flags, cwd=tmp_path), 2, says)
    assert names(tmp_path) == []


def workers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(run.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def writer_among(workers: list[psutil.Process], out: Path) -> psutil.Process:
    """That worker which has begun to write a result's files, as soon as there is one."""
    for _ in range(60_000):
        for folder in out.glob(".*.partial-*"):
            pid = int(folder.name.rsplit("-", 1)[1])
            begun = any(folder.glob("*.nii.gz")) and not (folder / "result.json").exists()
            if begun and (found := [worker for worker in workers if worker.pid == pid]):
                return found[0]
        time.sleep(0.002)
    raise AssertionError("no worker writes")


def run_with_a_kill(bundle: Path, place: Path, after: int, who: str = "worker") -> tuple[int, list[str], str]:
    """Runs the list on two workers, kills one of them, or the command that they belong to, after so many
    results.

    Args:
        who: "worker", "writer" (a worker amid a result's files) or "command".

    Returns:
        Exit code, folder of each result event, and what was said to people.
    """
    command = [*COMMAND, *map(str, arguments(bundle, "--cluster", "local:2", "--events"))]
    folders: list[str] = []
    with (place / "said").open("w") as said, subprocess.Popen(
        command, cwd=place, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=said, text=True
    ) as run:  # fmt: skip
        assert run.stdout is not None
        for line in run.stdout:
            event = json.loads(line)
            if event["event"] == "result":
                folders.append(event["path"])
                if len(folders) == after:
                    workers = workers_of(run)
                    assert len(workers) == 2
                    if who == "command":
                        run.kill()
                        psutil.wait_procs(workers, timeout=120)
                        assert not any(worker.is_running() for worker in workers)
                        break
                    dies = writer_among(workers, place / "out") if who == "writer" else workers[0]
                    dies.send_signal(signal.SIGKILL)
    return run.returncode, folders, (place / "said").read_text()


def assert_each_once(place: Path, sources: list[str], code: int, folders: list[str], said: str) -> None:
    assert code == 0, said[-2000:]
    assert len(folders) == len(set(folders)) == len(sources)
    assert sorted(folder.name for folder in complete(place / "out")) == sorted(Path(f).name for f in folders)
    assert sorted(r["input"]["name"] for r in records(place / "out")) == sorted(sources)
    assert (place / "out" / "errors.jsonl").read_text() == ""
    assert f"{len(sources)} of {len(sources)} results are complete" in said


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.timeout(3600)  # two hundred of them on a machine that does much else
@pytest.mark.parametrize(
    ("count", "after", "who"),
    [
        (6, 2, "worker"),
        pytest.param(6, 2, "writer", marks=pytest.mark.slow),
        pytest.param(200, 100, "worker", marks=pytest.mark.slow),
    ],
    ids=["few", "amid writing", "two hundred"],
)
def test_a_worker_killed_amid_a_list_costs_no_result_and_makes_none_twice(
    count: int, after: int, who: str, tmp_path: Path, pipeline_bundle: Path
) -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra cluster brings Dask")
    sources = several(tmp_path / "radiographs", count)
    (tmp_path / "list.txt").write_text("\n".join(f"radiographs/{name}" for name in sources), encoding="utf-8")
    assert_each_once(tmp_path, sources, *run_with_a_kill(pipeline_bundle, tmp_path, after, who))

    written = {folder: folder.stat().st_mtime_ns for folder in complete(tmp_path / "out")}
    again = xray2ctpa(*arguments(pipeline_bundle, "--cluster", "local:2"), cwd=tmp_path, timeout=1800)
    assert again.returncode == 0
    assert again.stdout.count("Already complete") == count
    assert {folder: folder.stat().st_mtime_ns for folder in complete(tmp_path / "out")} == written


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_command_takes_its_workers_with_it_and_the_next_one_goes_on(
    tmp_path: Path, pipeline_bundle: Path
) -> None:
    """The scheduler lives in the command. What was complete is not made again, and nothing is partial."""
    pytest.importorskip("dask_jobqueue", reason="the extra cluster brings Dask")
    sources = several(tmp_path / "radiographs", 6)
    (tmp_path / "list.txt").write_text("\n".join(f"radiographs/{name}" for name in sources), encoding="utf-8")
    code, folders, _ = run_with_a_kill(pipeline_bundle, tmp_path, 2, "command")
    assert (code, len(folders)) == (-signal.SIGKILL, 2)
    for _ in range(100):  # the guards of what was under way remove it
        if not list((tmp_path / "out").glob(".*")):
            break
        time.sleep(0.1)
    before = {folder: folder.stat().st_mtime_ns for folder in complete(tmp_path / "out")}
    assert 2 <= len(before) < 6
    again = xray2ctpa(*arguments(pipeline_bundle, "--cluster", "local:2"), cwd=tmp_path, timeout=900)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("Already complete") == len(before)
    after = {folder: folder.stat().st_mtime_ns for folder in complete(tmp_path / "out")}
    assert {folder: after[folder] for folder in before} == before
    assert sorted(r["input"]["name"] for r in records(tmp_path / "out")) == sorted(sources)
