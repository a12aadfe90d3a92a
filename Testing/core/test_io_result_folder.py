"""A result folder appears complete or not at all: errors, kills, full disks and read-only places."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xray2ctpa_core.errors import OutputError
from xray2ctpa_core.io import result_folder
from xray2ctpa_core.io.result_folder import ResultFolder, remove_leftovers, writing

CORE = Path(__file__).resolve().parents[2] / "X-ray2CTPACore"

WRITER = """
import sys, time
from pathlib import Path
from xray2ctpa_core.io.result_folder import ResultFolder
with ResultFolder(Path(sys.argv[1])) as folder:
    (folder.path / "ctpa.nii.gz").write_bytes(b"half")
    (folder.work / "step.png").write_bytes(b"x")
    print("writing", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def wait_until(holds: object, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_a_published_folder_holds_the_files_and_nothing_else(tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "a" / "out") as folder:
        (folder.path / "ctpa.nii.gz").write_bytes(b"voxels")
        (folder.work / "step.png").write_bytes(b"x")
        assert not (tmp_path / "a" / "out").exists()
        assert folder.path.name.startswith(".")
        folder.publish()
    assert names(tmp_path / "a") == ["out"]
    assert names(tmp_path / "a" / "out") == ["ctpa.nii.gz"]


def test_an_empty_folder_is_filled_and_stays_the_same(tmp_path: Path) -> None:
    """Its permissions, and shells and containers that are in it, hold on to the folder itself."""
    (tmp_path / "out").mkdir(mode=0o711)
    before = (tmp_path / "out").stat()
    with ResultFolder(tmp_path / "out") as folder:
        (folder.path / "f").write_bytes(b"x")
        folder.publish()
    after = (tmp_path / "out").stat()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["f"]
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_a_disk_mounted_as_the_folder_itself_is_filled(small_disk: Path) -> None:
    with ResultFolder(small_disk) as folder:
        (folder.path / "f").write_bytes(b"x")
        folder.publish()
    assert names(small_disk) == ["f"]


def test_an_error_leaves_an_empty_folder_empty(tmp_path: Path) -> None:
    def fail() -> None:
        with ResultFolder(tmp_path) as folder:
            (folder.path / "f").write_bytes(b"x")
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert names(tmp_path) == []


def test_a_name_that_appeared_meanwhile_is_kept_and_nothing_is_mixed_with_it(tmp_path: Path) -> None:
    def publish() -> None:
        with ResultFolder(tmp_path) as folder:
            for name in "fgh":
                (folder.path / name).write_bytes(b"x")
            (tmp_path / "g").write_bytes(b"someone's")
            folder.publish()

    with pytest.raises(OutputError, match="g appeared in it meanwhile"):
        publish()
    assert names(tmp_path) == ["g"]
    assert (tmp_path / "g").read_bytes() == b"someone's"


def test_a_folder_in_which_another_process_writes_is_refused_and_one_that_died_there_is_no_hindrance(
    tmp_path: Path,
) -> None:
    with ResultFolder(tmp_path) as folder:
        with pytest.raises(OutputError, match="which exists"), ResultFolder(tmp_path):
            raise AssertionError("entered")
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        leftover = folder.path.with_name(folder.path.name.replace(str(os.getpid()), str(dead.pid)))
        leftover.mkdir()
    with ResultFolder(tmp_path) as folder:
        assert not leftover.exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing_created_parents_included(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with ResultFolder(tmp_path / "a" / "b" / "out") as folder:
            (folder.path / "f").write_bytes(b"x")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_a_parent_that_someone_else_used_meanwhile_stays(tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "a" / "out"):  # not published
        (tmp_path / "a" / "theirs.txt").write_text("x")
    assert names(tmp_path / "a") == ["theirs.txt"]


@pytest.mark.parametrize("make", [lambda p: (p.mkdir(), (p / "x").touch()), lambda p: p.touch()])
def test_a_folder_or_file_that_is_there_is_refused_and_kept(tmp_path: Path, make: object) -> None:
    make(tmp_path / "out")  # type: ignore[operator]
    with pytest.raises(OutputError, match="which exists"), ResultFolder(tmp_path / "out"):
        raise AssertionError("entered")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_writer_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a" / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(CORE)}, start_new_session=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        assert len(names(tmp_path / "a")) == 1
        os.killpg(writer.pid, number)  # the whole group: what a terminal or a batch system does
    assert wait_until(lambda: names(tmp_path) == []), names(tmp_path)


def test_a_forked_process_that_lives_on_does_not_hold_the_writer_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_folder, "_GUARD_SECONDS", 0.3)
    folder = ResultFolder(tmp_path / "result")
    with folder:
        fork = os.fork()  # as a worker of multiprocessing; it has the pipe to the guard, too
        if fork == 0:
            time.sleep(60)
            os._exit(0)
        began = time.monotonic()
    try:
        assert time.monotonic() - began < 5
        assert names(tmp_path) == []
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)


def test_leftovers_of_a_dead_process_go_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    own = ResultFolder(tmp_path / "out").path
    leftover = own.with_name(own.name.replace(str(os.getpid()), str(dead.pid)))
    foreign = tmp_path / f".out.partial-elsewhere-{dead.pid}"
    for folder in (own, leftover, foreign, tmp_path / ".out.partial-note"):
        folder.mkdir()
        (folder / "f").touch()
    remove_leftovers(tmp_path / "out")
    assert names(tmp_path) == sorted([own.name, foreign.name, ".out.partial-note"])


def test_too_little_space_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="MB of free disk"), ResultFolder(tmp_path / "a" / "out", 1 << 60):
        raise AssertionError("entered")
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_while_writing_leaves_nothing(small_disk: Path) -> None:
    with (
        pytest.raises(OutputError, match="full disk"),
        ResultFolder(small_disk / "out", needed_bytes=1 << 10) as folder,
        writing(folder.path),
    ):
        (folder.path / "f").write_bytes(bytes(16 << 20))
    assert names(small_disk) == []


def test_a_read_only_place_is_refused_before_the_work(read_only_place: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"Read-only|Permission"),
        ResultFolder(read_only_place / "a" / "out"),
    ):
        raise AssertionError("entered")
    assert names(read_only_place) == []


@pytest.mark.parametrize("name", ["x" * 300, "file/out"])
def test_an_impossible_place_is_an_output_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError), ResultFolder(tmp_path / name):
        raise AssertionError("entered")
    assert names(tmp_path) == ["file"]
