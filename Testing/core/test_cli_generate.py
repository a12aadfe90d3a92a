"""`xray2ctpa generate` from a radiograph to a result folder, through the real command and a tiny pipeline."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import io_radiographs as radiographs
import nibabel as nib
import numpy as np
import pydicom
import pytest
from cli_runs import COMMAND, ENVIRONMENT, assert_refused, names, xray2ctpa
from disks import mounted
from PIL import Image

from xray2ctpa_core.io.volumes import read_volume

FILES = ["ctpa.nii.gz", "gradcam-label.nii.gz", "gradcam.nii.gz", "preview.png", "result.json"]
#: The volume's second name, for the radiograph radiograph.dcm.
NAMED = "SYNTHETIC-radiograph-ctpa.nii.gz"
#: Stages that a run goes through, in order (design, section 4).
STAGES = ["verify", "read", "load", "generate", "finish", "write"]


@dataclass(frozen=True)
class Case:
    """A radiograph, a bundle and what one run with seed 3 made of them."""

    radiograph: Path
    bundle: Path
    result: Path
    run: subprocess.CompletedProcess[str]

    def arguments(self, *more: object) -> tuple[object, ...]:
        return ("generate", self.radiograph, "--bundle", self.bundle, "--seed", 3, "--force", *more)

    def record(self) -> dict[str, Any]:
        return json.loads((self.result / "result.json").read_text())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, pipeline_bundle: Path) -> Case:
    folder = tmp_path_factory.mktemp("case")
    radiograph = radiographs.write_dicom(
        folder / "radiograph.dcm", ImagerPixelSpacing=list(radiographs.SPACING)
    )
    draft = Case(radiograph, pipeline_bundle, folder / "result", subprocess.CompletedProcess([], 0))
    run = xray2ctpa(*draft.arguments("--out", draft.result), cwd=folder)
    assert run.returncode == 0, run.stderr
    return Case(radiograph, pipeline_bundle, draft.result, run)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_a_result_holds_the_files_of_the_contract_on_one_grid(case: Case) -> None:
    assert names(case.result) == [NAMED, *FILES]
    ctpa, gradcam, label = (read_volume(case.result / f) for f in (FILES[0], FILES[2], FILES[1]))
    assert (ctpa.array.dtype, gradcam.array.dtype, label.array.dtype) == (np.int16, np.float32, np.uint8)
    assert np.array_equal(ctpa.affine, gradcam.affine)
    assert np.array_equal(ctpa.affine, label.affine)
    assert 0 <= gradcam.array.min() <= gradcam.array.max() <= 1
    assert np.array_equal(label.array, np.digitize(gradcam.array, (0.25, 0.5, 0.75)))
    with Image.open(case.result / "preview.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000


def test_result_json_holds_every_field_of_the_contract(case: Case) -> None:
    record, ctpa = case.record(), read_volume(case.result / "ctpa.nii.gz")
    assert record["schema_version"] == "1.0"
    assert record["input"]["name"] == "radiograph.dcm"
    assert len(record["input"]["sha256"]) == 64
    assert record["input"]["modality"] == "CR"
    assert record["input"]["photometric"] == "MONOCHROME2"
    assert record["input"]["spacing_mm"] == list(radiographs.SPACING)
    assert record["input"]["spacing_source"] == "ImagerPixelSpacing"
    assert {"view"} <= set(record["input"])
    assert 0 <= record["gate"]["is_frontal_cxr"] <= 1
    assert isinstance(record["gate"]["warnings"], list)
    assert set(record["bundle"]) == {"name", "version", "sha256", "trained_on", "is_demonstration"}
    sampling = record["sampling"]
    assert (sampling["seed"], sampling["samples"], sampling["device"]) == (3, 1, "cpu")
    assert {"scheduler", "steps", "precision", "seconds", "peak_memory_mb"} <= set(sampling)
    assert sampling["arithmetic"]["tf32"] is False
    assert {"read", "load", "write"} <= set(sampling["seconds"])
    assert 50 < sampling["peak_memory_mb"] < 4096
    pe = record["pe"]
    assert 0 <= pe["probability"] <= 1
    assert pe["per_sample"] == [pe["probability"]]
    assert pe["positive"] == (pe["probability"] >= pe["threshold"])
    assert "calibrated" in pe
    geometry = record["geometry"]
    assert geometry["shape"] == list(ctpa.array.shape)
    assert np.allclose(geometry["spacing_mm"], ctpa.spacing)
    assert np.allclose(geometry["origin_lps"], ctpa.origin)
    assert np.allclose(geometry["direction"], ctpa.direction)
    assert "consistency" in record
    assert record["software"]["xray2ctpa_core"]
    assert record["software"]["torch"]
    assert "never a diagnosis" in record["notice"]


def test_a_person_reads_where_the_result_is_and_what_it_is_not(case: Case) -> None:
    assert str(case.result) in case.run.stdout
    assert "never a diagnosis" in case.run.stdout
    assert all(line.startswith("Warning: ") for line in case.run.stderr.splitlines())


def test_a_finished_result_is_not_made_again(case: Case, place: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in case.result.iterdir()}
    run = xray2ctpa(*case.arguments("--out", case.result, "--events"), cwd=place)
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, run.stderr
    assert [event.get("stage") for event in events] == ["verify", "read", None]
    assert events[-1]["event"] == "result"
    assert events[-1]["skipped"] is True
    assert events[-1]["result"] == case.record()
    assert {p.name: p.stat().st_mtime_ns for p in case.result.iterdir()} == before


@pytest.mark.parametrize("flag", [("--seed", 4), ("--samples", 2)])
def test_a_result_made_in_another_way_is_neither_reused_nor_replaced(
    case: Case, place: Path, flag: tuple[str, int]
) -> None:
    run = xray2ctpa(*case.arguments(*flag, "--out", case.result), cwd=place)
    assert_refused(run, 2, "which exists")
    assert names(case.result) == [NAMED, *FILES]


def test_an_incomplete_result_is_not_taken_for_a_finished_one(case: Case, place: Path) -> None:
    shutil.copytree(case.result, place / "out")
    (place / "out" / "gradcam.nii.gz").unlink()
    assert_refused(xray2ctpa(*case.arguments("--out", place / "out"), cwd=place), 2, "which exists")


def test_more_samples_contain_the_single_one_and_add_the_spread(case: Case, place: Path) -> None:
    run = xray2ctpa(*case.arguments("--out", "four", "--samples", 4), cwd=place)
    assert run.returncode == 0, run.stderr
    assert names(place / "four") == sorted([NAMED, *FILES, "spread.nii.gz"])
    pe = json.loads((place / "four" / "result.json").read_text())["pe"]
    assert pe["per_sample"][0] == case.record()["pe"]["probability"]
    assert len(set(pe["per_sample"])) == 4
    assert pe["probability"] == pytest.approx(np.mean(pe["per_sample"]))
    spread = read_volume(place / "four" / "spread.nii.gz")
    assert spread.array.dtype == np.float32
    assert spread.array.min() >= 0
    assert spread.array.max() > 0


def test_a_batch_gives_each_radiograph_what_it_gets_alone_and_goes_on_after_a_failure(
    case: Case, place: Path
) -> None:
    mirrored = radiographs.write_dicom(place / "other.dcm", radiographs.quantised(12)[:, ::-1].copy())
    (place / "notes.png").write_text("no radiograph")
    (place / "sub").mkdir()
    shutil.copy(case.radiograph, place / "sub" / "other.dcm")
    inputs = [mirrored, place / "notes.png", place / "sub" / "other.dcm"]
    batch = ("generate", *inputs, "--bundle", case.bundle, "--seed", 3, "--force", "--out", place / "out")
    run = xray2ctpa(*batch, cwd=place)
    assert run.returncode == 2
    assert str(place / "notes.png") in run.stderr
    assert names(place / "out") == ["other", "other-2"]
    for name in FILES[:3]:
        assert (place / "out" / "other-2" / name).read_bytes() == (case.result / name).read_bytes()
    ctpa = (case.result / "ctpa.nii.gz").read_bytes()
    assert (place / "out" / "other" / "ctpa.nii.gz").read_bytes() != ctpa

    resumed = xray2ctpa(*batch, cwd=place)
    assert resumed.returncode == 2
    assert resumed.stdout.count("Already complete") == 2


def test_one_seed_gives_the_same_voxels_here_under_the_inputs_name_with_events(
    case: Case, place: Path
) -> None:
    run = xray2ctpa(*case.arguments("--events"), cwd=place)
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, run.stderr
    assert names(place) == ["radiograph-ctpa"]
    for name in FILES[:3]:
        assert (place / "radiograph-ctpa" / name).read_bytes() == (case.result / name).read_bytes()
    assert [e["stage"] for e in events if e["event"] == "stage"] == STAGES
    progress = [e for e in events if e["event"] == "progress"]
    assert [e["step"] for e in progress] == list(range(1, progress[0]["of"] + 1))
    assert progress[-1]["eta_s"] > 0, "the volume has yet to be decoded"
    result = events[-1]
    assert (result["event"], result["skipped"]) == ("result", False)
    assert result["result"] == json.loads((place / "radiograph-ctpa" / "result.json").read_text())
    assert Path(result["path"]).name == "radiograph-ctpa"


@contextmanager
def running_until(stage: str, case: Case, place: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, up to the moment in which it says that ``stage`` begins."""
    steps = 200 if stage == "generate" else 2  # time enough to be caught at it
    arguments = case.arguments("--out", place / "a" / "out", "--events", "--steps", steps)
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(
        command,
        cwd=place,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_interruptible,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if json.loads(line).get("stage") == stage:
                break
        try:
            yield run
        finally:
            run.kill()


def _interruptible() -> None:
    """Tests started in the background by a shell inherit an ignored SIGINT; the command must not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def empties(folder: Path, seconds: float = 10.0) -> bool:
    """Whether ``folder`` holds nothing, at the latest after ``seconds``."""
    end = time.monotonic() + seconds
    while names(folder) and time.monotonic() < end:
        time.sleep(0.02)
    return names(folder) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_any_stage_leaves_nothing_behind(stage: str, case: Case, place: Path) -> None:
    with running_until(stage, case, place) as run:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert empties(place), names(place)


@pytest.mark.parametrize(("number", "stage"), [(signal.SIGTERM, "load"), (signal.SIGINT, "generate")])
def test_cancelling_exits_with_130_in_one_line(
    number: signal.Signals, stage: str, case: Case, place: Path
) -> None:
    with running_until(stage, case, place) as run:
        run.send_signal(number)
        out, err = run.communicate(timeout=300)
    assert run.returncode == 130, err
    assert [line for line in err.splitlines() if not line.startswith("Warning: ")] == [
        "Error: Cancelled; nothing unfinished was left behind."
    ]
    assert json.loads(out.splitlines()[-1])["code"] == 130
    assert names(place) == []


def test_a_reader_of_events_that_goes_away_ends_the_run(case: Case, place: Path) -> None:
    with running_until("generate", case, place) as run:
        assert run.stdout is not None
        run.stdout.close()
        assert run.wait(timeout=300) == 130
    assert names(place) == []


def test_a_disk_that_fills_up_during_the_run_exits_with_2_and_leaves_nothing(
    case: Case, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "size=80m") as disk:
        command = [*COMMAND, *map(str, case.arguments("--out", disk / "out", "--events"))]
        with subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if json.loads(line).get("stage") == "load":
                    fill(disk / "filler")
                    break
            _out, err = run.communicate(timeout=300)
        assert_refused(subprocess.CompletedProcess([], run.returncode, "", err), 2, "space")
        assert names(disk) == ["filler"]


def fill(path: Path) -> None:
    """Writes until the disk is full."""
    with path.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            return


def test_half_precision_on_a_cpu_exits_with_5(case: Case, place: Path) -> None:
    flags = ("--device", "cpu", "--precision", "fp16")
    assert_refused(xray2ctpa(*case.arguments("--out", "out", *flags), cwd=place), 5, "fp16")
    assert names(place) == []


def test_an_unknown_scheduler_exits_with_2(case: Case, place: Path) -> None:
    assert_refused(xray2ctpa(*case.arguments("--out", "out", "--scheduler", "magic"), cwd=place), 2, "magic")
    assert names(place) == []


def test_every_volume_says_synthetic_in_its_header(case: Case) -> None:
    for name in (NAMED, *FILES[:3]):
        header = nib.load(case.result / name).header
        assert header["descrip"].item().decode().startswith("SYNTHETIC")
        assert header["intent_name"].item() == b"SYNTHETIC"
        assert "hypothesis" in header.extensions[0].get_content().decode()
    named, plain = (case.result / name for name in (NAMED, FILES[0]))
    assert named.read_bytes() == plain.read_bytes()


def test_dicom_out_holds_the_same_voxels_and_resumes(case: Case, place: Path) -> None:
    pytest.importorskip("highdicom", reason="the extra dicom writes DICOM")
    for _ in range(2):
        run = xray2ctpa(*case.arguments("--out", case.result, "--dicom", place / "dicom"), cwd=place)
        assert run.returncode == 0, run.stderr
    (place / "dicom" / "gradcam.dcm").unlink()
    slices = [pydicom.dcmread(path).pixel_array for path in sorted((place / "dicom").iterdir())]
    assert np.array_equal(np.stack(slices), read_volume(case.result / FILES[0]).array)

    (place / "taken").mkdir()
    (place / "taken" / "thesis.txt").write_text("precious")
    taken = xray2ctpa(*case.arguments("--out", place / "new", "--dicom", place / "taken"), cwd=place)
    assert_refused(taken, 2, "new folder for DICOM")
    assert not (place / "new").exists()


def test_how_greys_and_size_were_found_is_in_the_record(case: Case) -> None:
    record = case.record()
    assert record["input"]["greys"] == "12-bit MONOCHROME2"
    assert record["input"]["magnification"] is None
    assert "ImagerPixelSpacing of 2.2 mm at the detector" in record["geometry"]["size"]
