"""The command in odd places: no streams, no folders, a user's own modules, names of UIDs and long ones."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import pytest
from cli_runs import COMMAND, ENVIRONMENT, assert_refused, names, xray2ctpa
from tiny_bundle import write_tiny_bundle

from xray2ctpa_core.cli.generate import result_folders, stem
from xray2ctpa_core.errors import OutputError
from xray2ctpa_core.io.result_folder import ResultFolder, remove_leftovers

#: A module of a user's that Python's own would be hidden by.
SHADOWS = ("random.py", "copy.py", "numbers.py")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def shell(line: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Runs the command with a shell's redirections; CMD stands for it."""
    command = " ".join(COMMAND)
    return subprocess.run(
        ["sh", "-c", line.replace("CMD", command)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes the streams")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(closed: str, tmp_path: Path, bundle: Path) -> None:
    good = shell(f"CMD info {bundle} {closed}", tmp_path)
    bad = shell(f"CMD check nothing.png {closed}", tmp_path)

    assert good.returncode == 0
    assert bad.returncode == 2
    assert "defect" not in good.stderr + bad.stderr
    assert ("tiny" in good.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert ("does not exist" in bad.stderr) == ("2>&-" not in closed)


@pytest.mark.skipif(os.name == "nt", reason="such a folder cannot be deleted there")
def test_a_deleted_working_folder_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm")
    run = shell(f"mkdir gone; cd gone; rmdir ../gone; CMD check {path}", tmp_path)

    assert_refused(run, 2, "working folder")


def test_a_users_modules_in_the_working_folder_are_not_pythons(tmp_path: Path) -> None:
    for name in SHADOWS:
        (tmp_path / name).write_text(f"raise SystemExit('the user\\'s {name} was imported')\n")

    run = xray2ctpa("check", "nothing.png", cwd=tmp_path)

    assert_refused(run, 2, "does not exist")


def test_children_of_the_page_and_of_slicer_leave_the_working_folder_out(repository: Path) -> None:
    """Their folder is the user's; both start the core with -P."""
    for file in (
        "X-ray2CTPACore/xray2ctpa_core/viewer/run.py",
        "X-ray2CTPACore/xray2ctpa_core/cli/demo.py",
        "X-ray2CTPA/XRay2CTPALib/CoreCommand.py",
    ):
        text = (repository / file).read_text(encoding="utf-8")
        assert text.index('"-P"') < text.index('"-m"')


def test_workers_leave_the_working_folder_out(tmp_path: Path, repository: Path) -> None:
    """Python begins the search path of a worker process with it; commands and training steps see to it."""
    for name in (*SHADOWS, "threading.py", "queue.py"):
        (tmp_path / name).write_text(f"raise SystemExit('the user\\'s {name} was imported')\n")
    script = (
        "import os\n"
        "from xray2ctpa_core.cli.streams import working_folder_left_out\n"
        "from xray2ctpa_core.workers import in_processes\n"
        "with working_folder_left_out():\n"
        "    print(sorted(made for _, made in in_processes(abs, [-1, -2], 2)))\n"
        "assert 'PYTHONSAFEPATH' not in os.environ, 'scripts started later must find their modules'\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.stdout, run.stderr) == ("[1, 2]\n", "")
    for file in ("cli/main.py", "cli/recipe.py", "../../Training/open_pairs.py"):
        text = (repository / "X-ray2CTPACore" / "xray2ctpa_core" / file).read_text(encoding="utf-8")
        assert "with working_folder_left_out()" in text


def test_the_core_runs_from_its_own_folder_uninstalled(repository: Path) -> None:
    """Without the working folder in the search path, the package that was started is still found."""
    run = subprocess.run(
        [sys.executable, "-S", "-m", "xray2ctpa_core", "--version"],
        cwd=repository / "X-ray2CTPACore",
        env=os.environ | {"PYTHONPATH": sysconfig.get_paths()["purelib"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.stdout.startswith("xray2ctpa ")


# --- Names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("radiograph.nii.gz", "radiograph"),
        ("radiograph.DCM", "radiograph"),
        ("radiograph.v2.png", "radiograph.v2"),
        ("1.2.840.10008.5.1", "1.2.840.10008.5.1"),
        ("1.2.840.10008.5.1.dcm", "1.2.840.10008.5.1"),
        ("IM0001", "IM0001"),
        (".png", ".png"),
    ],
)
def test_only_the_suffix_of_a_form_is_cut_off(name: str, expected: str) -> None:
    assert stem(Path("somewhere") / name) == expected


def test_files_named_by_uid_get_results_named_after_them() -> None:
    inputs = [Path("1.2.840.10008.5.1"), Path("1.2.840.10008.5.2")]

    assert [str(t) for _, t in result_folders(inputs, None)] == [f"{path}-ctpa" for path in inputs]
    assert str(result_folders(inputs[:1], None)[0][1]) == "1.2.840.10008.5.1-ctpa"


@pytest.mark.parametrize("letter", ["n", "é"])
def test_a_long_name_is_cut_to_what_a_disk_allows(letter: str, tmp_path: Path) -> None:
    """255 bytes; the hidden folder's name is cut as well, and known again."""
    longest = letter * (255 // len(letter.encode()))
    assert len(os.fsencode(result_folders([Path(longest)], None)[0][1].name)) <= 200

    with ResultFolder(tmp_path / longest) as folder:
        (folder.path / "file").write_text("content")
        folder.publish()
    assert names(tmp_path / longest) == ["file"]
    (tmp_path / longest / "file").unlink()
    (tmp_path / longest).rmdir()
    leftover = folder.path.with_name(folder.path.name.rpartition("-")[0] + "-999999999")
    leftover.mkdir()
    remove_leftovers(tmp_path / longest)
    assert not leftover.exists()


def test_names_too_long_for_the_disk_are_refused_before_the_run(tmp_path: Path, bundle: Path) -> None:
    path = radiographs.write_dicom(tmp_path / "f.dcm")

    run = xray2ctpa("generate", path, "--bundle", bundle, "--out", "n" * 300, "--events", cwd=tmp_path)
    assert_refused(run, 2, "Choose a shorter name")
    assert [json.loads(line).get("stage") for line in run.stdout.splitlines()] == ["verify", "read", None]
    assert_refused(xray2ctpa("check", "n" * 300 + ".png", cwd=tmp_path), 2, "shorter name")


# --- Links and temporary files -----------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_as_the_place_is_filled_and_stays_a_link(exists: bool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    if exists:
        (tmp_path / "real").mkdir()

    with ResultFolder(tmp_path / "link") as folder:
        (folder.path / "file").write_text("content")
        folder.publish()

    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["file"]
    assert names(tmp_path) == ["link", "real"]


def test_a_link_to_itself_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    with pytest.raises(OutputError, match="loop"), ResultFolder(tmp_path / "loop"):
        pytest.fail("entered")


def test_without_a_temporary_folder_a_file_that_needs_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    from pydicom.uid import JPEGLosslessSV1

    from xray2ctpa_core.io.radiograph import read_radiograph

    plain = radiographs.write_dicom(tmp_path / "plain.dcm")
    packed = radiographs.write_dicom(
        tmp_path / "f.dcm", radiographs.quantised(16), syntax=JPEGLosslessSV1, bits=16
    )
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])

    assert read_radiograph(plain).pixels.shape == (radiographs.ROWS, radiographs.COLUMNS)
    with pytest.raises(OutputError) as caught:
        read_radiograph(packed)
    assert "temporary files" in caught.value.message
    assert "TMPDIR" in caught.value.hint


def test_a_temporary_folder_that_fills_up_is_named(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    from pydicom.uid import JPEGLosslessSV1

    from xray2ctpa_core.io.radiograph import read_radiograph

    noise = np.random.default_rng(0).integers(0, 1 << 16, (512, 512)).astype(np.uint16)
    path = radiographs.write_dicom(small_disk / "f.dcm", noise, syntax=JPEGLosslessSV1, bits=16)
    (small_disk / "full").write_bytes(bytes(shutil.disk_usage(small_disk).free - (64 << 10)))
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))

    with pytest.raises(OutputError, match=r"temporary files with room for .*No space left") as caught:
        read_radiograph(path)
    assert "TMPDIR" in caught.value.hint
