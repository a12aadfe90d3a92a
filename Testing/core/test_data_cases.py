"""Cases on disk: whole or not at all, resumable, whatever the number of workers; a bad one is skipped."""

import functools
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ct_series import phantom, write_series
from killing import write_or_die

from xray2ctpa_core.data.cases import case_rows, read_case, write_cases
from xray2ctpa_core.data.ctpa_cases import write_ctpa
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.preprocessing.ctpa import CtpaSettings

SETTINGS = {"factor": 2}


def studies(*names: str) -> list[Study]:
    return [Study(name, f"patient-{name}", label=1, split="train", where=f"t.csv, row {n}")
            for n, name in enumerate(names, 2)]  # fmt: skip


class Writer:
    """Writes the study's id; fails for those called bad; counts."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def __call__(self, study: Study, folder: Path) -> dict[str, Any]:
        self.written.append(study.id)
        (folder / "half.txt").write_text(study.id)
        if study.id.startswith("bad"):
            raise InputError("Expected a good case, got a bad one.", "Mend it.")
        if study.id.startswith("broken"):
            raise KeyError("nothing foreseen")
        return {"said": study.id}


def test_a_bad_case_is_logged_with_its_row_and_the_others_go_on(tmp_path: Path) -> None:
    summary = write_cases(tmp_path, studies("a", "bad", "c", "broken"), Writer(), SETTINGS)

    assert (summary.complete, summary.former) == (2, 0)
    errors = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert errors[0] == {
        "id": "bad",
        "where": "t.csv, row 3",
        "message": "Expected a good case, got a bad one.",
        "hint": "Mend it.",
    }
    assert errors[1]["message"] == "Unexpected KeyError: 'nothing foreseen'"
    assert "bad (t.csv, row 3): Expected a good case" in summary.summary_lines()[1]
    assert sorted(path.name for path in (tmp_path / "cases").iterdir()) == ["a", "c"]
    assert case_rows(tmp_path)[1] == {
        "id": "c",
        "patient": "patient-c",
        "label": "1",
        "split": "train",
        "folder": "cases/c",
    }
    assert read_case(tmp_path / case_rows(tmp_path)[0]["folder"])["said"] == "a"


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    write_cases(tmp_path, studies("a", "bad"), Writer(), SETTINGS)
    (tmp_path / "cases" / ".b.partial").mkdir()
    (tmp_path / "cases" / ".b.partial" / "half.txt").write_text("from a killed run")
    (tmp_path / "cases" / "c").mkdir()  # a folder without case.json is no case

    writer, seen = Writer(), []
    summary = write_cases(
        tmp_path, studies("a", "b", "c"), writer, SETTINGS, progress=lambda done, of: seen.append((done, of))
    )

    assert writer.written == ["b", "c"]
    assert seen == [(2, 3), (3, 3)]
    assert (summary.complete, summary.former, summary.failed) == (3, 1, ())
    assert (tmp_path / "errors.jsonl").read_text() == ""
    assert sorted(path.name for path in (tmp_path / "cases").iterdir()) == ["a", "b", "c"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_study_that_kills_its_worker_is_named_and_one_that_was_preempted_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ("a", "poison", "b", "preempted", "c", "d", "e", "f")
    summary = write_cases(out, studies(*names), write_or_die, SETTINGS, workers=2)

    assert summary.complete == 7
    (error,) = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert (error["id"], error["where"]) == ("poison", "t.csv, row 3")
    assert "killed 3 times" in error["message"]
    assert ".poison.partial" in error["hint"]

    again = write_cases(out, studies(*names), write_or_die, SETTINGS, workers=1)
    assert (again.complete, again.former) == (7, 7)
    assert "poison (t.csv, row 3): Expected the process to finish this study" in again.failed[0]


def test_a_run_in_one_process_gives_a_study_up_that_killed_it_three_times(tmp_path: Path) -> None:
    partial = tmp_path / "cases" / ".b.partial"
    for tries, written in ((2, ["b"]), (3, [])):
        partial.mkdir(parents=True, exist_ok=True)
        (partial / "tries").write_text(str(tries))
        writer = Writer()
        summary = write_cases(tmp_path, studies("a", "b"), writer, SETTINGS)
        assert [name for name in writer.written if name == "b"] == written
        if not written:
            assert len(summary.failed) == 1
        else:
            (tmp_path / "cases" / "b" / "case.json").unlink()


def test_cases_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    write_cases(tmp_path, studies("a"), Writer(), {"window": (-100, 900), "factor": 2})
    write_cases(tmp_path, studies("a"), Writer(), {"window": (-100, 900), "factor": 2})

    with pytest.raises(InputError, match="they differ in factor"):
        write_cases(tmp_path, studies("a"), Writer(), {"window": (-100, 900), "factor": 3})


def test_when_every_case_fails_the_run_does(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"all 2 failed. The first: bad-1 \(t.csv, row 2\): Expected a good"):
        write_cases(tmp_path, studies("bad-1", "bad-2"), Writer(), SETTINGS)
    assert len((tmp_path / "errors.jsonl").read_text().splitlines()) == 2
    with pytest.raises(InputError, match="found none"):
        case_rows(tmp_path)


def test_ids_become_folder_names_that_do_not_collide(tmp_path: Path) -> None:
    write_cases(tmp_path, studies("scan 1/a"), Writer(), SETTINGS)
    assert (tmp_path / "cases" / "scan_1_a" / "case.json").is_file()

    with pytest.raises(InputError, match="different folder names"):
        write_cases(tmp_path, studies("scan 1/a", "scan_1_a"), Writer(), SETTINGS)


def test_a_place_that_cannot_be_written_stops_the_run(read_only_place: Path) -> None:
    with pytest.raises(OutputError):
        write_cases(read_only_place / "out", studies("a", "b"), Writer(), SETTINGS)


def test_two_workers_write_what_one_writes(tmp_path: Path) -> None:
    settings = CtpaSettings(spacing_mm=5.0, lungs="threshold", shape=(16, 32, 32))
    scans = []
    for number in range(3):
        volume = phantom(clot_hu=100.0 * number)
        write_series(tmp_path / f"s{number}", volume)
        scans.append(Study(f"s{number}", f"p{number}", tmp_path / f"s{number}", where=f"row {number + 2}"))
    broken = volume.with_array(np.where(volume.array < -500, 0.0, volume.array).astype(np.float32))
    write_series(tmp_path / "s3", broken)
    scans.append(Study("s3", "p3", tmp_path / "s3", where="row 5"))
    write = functools.partial(write_ctpa, settings)

    serial = write_cases(tmp_path / "one", scans, write, {}, workers=1)
    parallel = write_cases(tmp_path / "two", scans, write, {}, workers=2)

    assert serial == parallel
    assert len(serial.failed) == 1
    for one in (tmp_path / "one").rglob("*.*"):
        if one.is_file():
            other = tmp_path / "two" / one.relative_to(tmp_path / "one")
            assert one.read_bytes() == other.read_bytes(), one.name


def test_a_case_records_where_it_comes_from_and_how_it_was_made(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", phantom())
    settings = CtpaSettings(spacing_mm=5.0, lungs="threshold", shape=(16, 32, 32))
    scan = Study("scan", "p", tmp_path / "scan", where="t.csv, row 2")

    write_cases(tmp_path / "out", [scan], functools.partial(write_ctpa, settings), {})

    folder = tmp_path / "out" / "cases" / "scan"
    record = read_case(folder)
    assert record["source"]["files"] == 12
    assert len(record["source"]["sha256"]) == 64
    assert record["source"]["spacing_mm"] == pytest.approx([10.0, 10.0, 20.0])
    assert record["settings"]["window"] == [-100.0, 900.0]
    assert record["isotropic_grid"] == [48, 64, 64]
    assert record["versions"]["SimpleITK"]
    assert list(record["volumes"]) == ["ctpa-0.nii.gz", "ctpa-1.nii.gz"]
    for name, described in record["volumes"].items():
        volume = read_volume(folder / name)
        assert volume.array.shape == tuple(described["shape"]) == (8, 32, 32)
        assert volume.array.dtype == np.int16
        assert np.allclose(volume.affine, described["affine_lps"], atol=1e-3)
