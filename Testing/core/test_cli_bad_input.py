"""Bad input through the real command: the right exit code, two helpful lines, nothing left behind."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import pytest
import SimpleITK as sitk
from cli_runs import assert_refused, names, xray2ctpa
from PIL import Image
from tiny_bundle import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def truncated_dicom(folder: Path) -> Path:
    path = radiographs.write_dicom(folder / "truncated.dcm")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def multi_frame(folder: Path) -> Path:
    frames = np.stack([radiographs.quantised(12)] * 3)
    return radiographs.write_dicom(
        folder / "cine.dcm", frames, Rows=radiographs.ROWS, Columns=radiographs.COLUMNS, NumberOfFrames=3
    )


def volume(folder: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((70, 80, 90), np.int16)), str(folder / "volume.nii.gz"))
    return folder / "volume.nii.gz"


def blank(folder: Path) -> Path:
    Image.new("L", (300, 300), 128).save(folder / "blank.png")
    return folder / "blank.png"


def one_pixel(folder: Path) -> Path:
    Image.new("L", (1, 1), 128).save(folder / "pixel.png")
    return folder / "pixel.png"


def huge(folder: Path) -> Path:
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    return folder / "huge.png"


def not_a_number(folder: Path) -> Path:
    pixels = radiographs.picture()
    pixels[5, 5] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(folder / "nan.mha"))
    return folder / "nan.mha"


def text(folder: Path) -> Path:
    (folder / "notes.png").write_text("This is a letter, not a radiograph.\n")
    return folder / "notes.png"


def missing(folder: Path) -> Path:
    return folder / "nowhere" / "radiograph.png"


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def unreadable(folder: Path) -> Path:
    """A path that nobody can read: no permission, or for root, to whom all is permitted, a socket."""
    path = blank(folder)
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.unlink()
        os.mkfifo(path)
    return path


BAD_INPUTS: dict[Callable[[Path], Path], str] = {
    truncated_dicom: "truncated.dcm",
    multi_frame: "one frame, got 3",
    volume: "a volume",
    blank: "blank",
    one_pixel: "1 x 1",
    huge: "50 million pixels",
    not_a_number: "nan.mha",
    text: "notes.png",
    missing: "does not exist",
    empty_folder: "empty",
    unreadable: "blank.png",
}


@pytest.mark.parametrize("make", BAD_INPUTS, ids=lambda make: make.__name__)
def test_an_unusable_input_exits_with_2_quickly_and_leaves_nothing(
    make: Callable[[Path], Path], tmp_path: Path, bundle: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    source = make(tmp_path)

    began = time.monotonic()
    run = xray2ctpa("generate", source, "--bundle", bundle, "--out", place / "a" / "out", cwd=place)

    assert_refused(run, 2, BAD_INPUTS[make])
    assert run.stdout == ""
    assert names(place) == []
    assert time.monotonic() - began < 20, "an unusable input must not wait for torch"


ARGUMENTS = {
    "no command": ([], "COMMAND"),
    "unknown command": (["operate"], "operate"),
    "no input": (["generate"], "INPUT"),
    "empty input": (["generate", ""], "INPUT: expected a file or folder, got an empty name"),
    "empty place": (["generate", "radiograph.png", "--out", ""], "--out: expected a file or folder"),
    "unknown flag": (["generate", "radiograph.png", "--sharpen"], "--sharpen"),
    "no steps": (["generate", "radiograph.png", "--steps", "0"], "--steps"),
    "steps in words": (["generate", "radiograph.png", "--steps", "many"], "--steps"),
    "no samples": (["generate", "radiograph.png", "--samples", "-1"], "--samples"),
    "negative seed": (["generate", "radiograph.png", "--seed", "-1"], "--seed"),
    "large seed": (["generate", "radiograph.png", "--seed", str(2**63)], "--seed"),
    "unknown device": (["generate", "radiograph.png", "--device", "abacus"], "abacus"),
    "unknown precision": (["generate", "radiograph.png", "--precision", "int1"], "int1"),
    "cohort of none": (["cohort", "--n", "0", "--out", "c"], "--n"),
    "cohort without a place": (["cohort", "--n", "1"], "--out"),
}


@pytest.mark.parametrize(("arguments", "says"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_wrong_arguments_exit_with_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    assert_refused(xray2ctpa(*arguments, cwd=tmp_path), 2, says, "--help")
    assert names(tmp_path) == []


@pytest.mark.parametrize("command", [[], ["generate"], ["demo"], ["info"], ["verify"], ["cohort"]])
def test_help_says_what_comes_out_without_loading_anything(command: list[str], tmp_path: Path) -> None:
    run = xray2ctpa(*command, "--help", cwd=tmp_path)
    assert run.returncode == 0
    assert run.stdout.startswith("usage: xray2ctpa")
    assert run.stderr == ""


def test_events_report_an_error_as_the_last_line_and_on_stderr_too(tmp_path: Path, bundle: Path) -> None:
    run = xray2ctpa("generate", missing(tmp_path), "--bundle", bundle, "--events", cwd=tmp_path)
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert_refused(run, 2, "does not exist")
    assert [event["event"] for event in events] == ["stage", "stage", "error"]
    assert [event.get("stage") for event in events] == ["verify", "read", None]
    assert events[-1]["code"] == 2
    assert "does not exist" in events[-1]["message"]
    assert events[-1]["hint"]


def test_events_report_wrong_arguments_as_well(tmp_path: Path) -> None:
    run = xray2ctpa("generate", "radiograph.png", "--events", "--steps", "0", cwd=tmp_path)
    assert_refused(run, 2)
    assert [json.loads(line)["code"] for line in run.stdout.splitlines()] == [2]


def test_a_batch_goes_on_and_exits_with_the_first_failure(tmp_path: Path, bundle: Path) -> None:
    place = tmp_path / "place"
    inputs = [blank(tmp_path), text(tmp_path), missing(tmp_path)]
    run = xray2ctpa("generate", *inputs, "--bundle", bundle, "--out", place, cwd=tmp_path)
    errors = [line for line in run.stderr.splitlines() if line.startswith("Error: ")]
    assert run.returncode == 2
    assert [str(source) in line for source, line in zip(inputs, errors, strict=True)] == [True] * 3
    assert not place.exists()


def tampered(bundle: Path) -> str:
    weights = bundle / "denoiser" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return "changed: denoiser/model.safetensors"


def cut_short(bundle: Path) -> str:
    weights = bundle / "denoiser" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    return "changed: denoiser/model.safetensors"


def without_weights(bundle: Path) -> str:
    (bundle / "denoiser" / "model.safetensors").unlink()
    return "missing: denoiser/model.safetensors"


def with_a_pickle(bundle: Path) -> str:
    (bundle / "extra.pt").write_bytes(b"cos\nsystem\n(S'echo owned'\ntR.")
    return "extra.pt"


def of_the_future(bundle: Path) -> str:
    path = bundle / "bundle.json"
    path.write_text(path.read_text().replace('"schema_version": "1.0"', '"schema_version": "9.0"'))
    return "schema version '9.0'"


def with_another_threshold(bundle: Path) -> str:
    path = bundle / "bundle.json"
    path.write_text(path.read_text().replace('"threshold": 0.5', '"threshold": 0.1'))
    return "digest differs"


def without_bundle_json(bundle: Path) -> str:
    (bundle / "bundle.json").unlink()
    return "bundle.json"


DAMAGES = [
    tampered,
    cut_short,
    without_weights,
    with_a_pickle,
    of_the_future,
    with_another_threshold,
    without_bundle_json,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_bundle_exits_with_3_and_names_the_file(
    damage: Callable[[Path], str], tmp_path: Path, bundle: Path
) -> None:
    says = damage(bundle)
    place = tmp_path / "place"
    place.mkdir()
    radiograph = radiographs.write_dicom(tmp_path / "radiograph.dcm")
    assert_refused(xray2ctpa("verify", bundle, cwd=place), 3, says)
    assert_refused(xray2ctpa("generate", radiograph, "--bundle", bundle, cwd=place), 3, says)
    assert names(place) == []


def test_a_bundle_that_does_not_exist_exits_with_3(tmp_path: Path) -> None:
    for name in ("no-such-bundle", "./here", "owner/name"):
        assert_refused(xray2ctpa("info", name, cwd=tmp_path), 3, name)


def test_info_and_verify_say_what_a_bundle_is(tmp_path: Path, bundle: Path) -> None:
    info = xray2ctpa("info", bundle, cwd=tmp_path)
    assert (info.returncode, info.stderr) == (0, "")
    assert "tiny 0.1 (a demonstration)" in info.stdout
    assert "measured psnr:" in info.stdout
    record = json.loads(xray2ctpa("info", bundle, "--json", cwd=tmp_path).stdout)
    assert record["geometry"]["grid"] == [8, 16, 16]
    verify = xray2ctpa("verify", bundle, cwd=tmp_path)
    assert (verify.returncode, verify.stderr) == (0, "")
    assert "all 3 files are intact" in verify.stdout
    assert record["sha256"] in verify.stdout


def test_a_place_that_cannot_be_written_exits_with_2_before_torch_is_loaded(
    read_only_place: Path, tmp_path: Path, bundle: Path
) -> None:
    radiograph = radiographs.write_dicom(tmp_path / "radiograph.dcm")
    out = read_only_place / "a" / "out"
    run = xray2ctpa("generate", radiograph, "--bundle", bundle, "--out", out, "--events", cwd=tmp_path)
    stages = [json.loads(line).get("stage") for line in run.stdout.splitlines()]
    assert_refused(run, 2, "writable")
    assert stages == ["verify", "read", None]
    assert names(read_only_place) == []


def test_a_full_disk_exits_with_2_before_torch_is_loaded(
    small_disk: Path, tmp_path: Path, bundle: Path
) -> None:
    radiograph = radiographs.write_dicom(tmp_path / "radiograph.dcm")
    run = xray2ctpa(
        "generate", radiograph, "--bundle", bundle, "--out", small_disk / "out", "--events", cwd=tmp_path
    )
    stages = [json.loads(line).get("stage") for line in run.stdout.splitlines()]
    assert_refused(run, 2, "MB of free disk")
    assert stages == ["verify", "read", None]
    assert names(small_disk) == []


def test_a_folder_that_holds_something_else_is_refused_and_kept(tmp_path: Path, bundle: Path) -> None:
    radiograph = radiographs.write_dicom(tmp_path / "radiograph.dcm")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    run = xray2ctpa("generate", radiograph, "--bundle", bundle, "--out", tmp_path / "out", cwd=tmp_path)
    assert_refused(run, 2, "which exists")
    assert names(tmp_path / "out") == ["thesis.txt"]
