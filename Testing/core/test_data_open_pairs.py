"""Open pairs: rules on rows whose right answer is seen, and the way from the index to the study table."""

import csv
import dataclasses
import errno
import importlib.util
import json
import os
import re
import shutil
import sys
from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pytest
from commons import ANGIO, PORTABLE, SBU, exit_code, fetch_zeros, series, write_index, write_store
from ct_series import phantom, write_series
from disks import mounted
from io_radiographs import write_dicom

from xray2ctpa_core.data.open_pairs.cost import Machine, StepCost, read_measured, recipe_cost
from xray2ctpa_core.data.open_pairs.fetch import ERRORS_FILE, fetch_series, needed_series, series_folder
from xray2ctpa_core.data.open_pairs.labels import embolism_columns, join_labels, labels_text, read_labels
from xray2ctpa_core.data.open_pairs.pairs import Count, count_patients, select_pairs, split_of
from xray2ctpa_core.data.open_pairs.prepare import Prepared, checked, prepare_pairs
from xray2ctpa_core.data.open_pairs.rules import (
    COLLECTIONS,
    Rules,
    is_angiography,
    is_axial_chest,
    is_frontal_chest,
)
from xray2ctpa_core.data.open_pairs.series import TESTED_INDEX, Series, index_path, index_version, read_index
from xray2ctpa_core.data.open_pairs.table import RULES_FILE, TABLE_FILE, read_pairs, write_pairs
from xray2ctpa_core.data.sources.source import StudySource, read_studies
from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.pipelines.loading import EMBEDDED
from xray2ctpa_core.volume import Volume

TRAINING = Path(__file__).resolve().parents[2] / "Training"
LIDC = "lidc_idri"
LOCATOR = EMBEDDED / "virtual-thorax" / "lung_locator"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("open_pairs", TRAINING / "open_pairs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("description", "chosen"),
    [
        ("CHEST 1.25 MM", True),
        ("", True),
        ("CORONAL PE MIP", False),
        ("1 25 MM SAGITAL", False),
        ("SCOUT AP/LAT", False),
        ("Smart Prep Series", False),
        ("ABD/PEL 2.5 MM", False),
        ("CHEST ABD PEL 5X5", True),
    ],
)
def test_a_ct_series_is_told_by_its_words(description: str, chosen: bool) -> None:
    assert is_axial_chest(series("1", description=description), Rules()) is chosen


@pytest.mark.parametrize(
    ("change", "chosen"),
    [
        ({"images": 39}, False),
        ({"images": 701}, False),
        ({"licence": "CC BY-NC 4.0"}, False),
        ({"study_description": "CT ABD AND PELVIS WITH IV CONT", "description": "Body 3.000"}, False),
        ({"study_description": "CT CHEST WO IV CONT"}, True),
    ],
)
def test_a_ct_series_needs_images_a_licence_and_the_chest(change: dict, chosen: bool) -> None:
    assert is_axial_chest(series("1", **change), Rules()) is chosen


@pytest.mark.parametrize(
    ("study", "angiography"),
    [
        (ANGIO, True),
        ("CT PE CHEST", True),
        ("CT ANGIO CHEST W&W/O C", True),
        ("CT CHEST WO IV CONT", False),
        ("CT ANGIO ABD AND PEL WWO IV CONT", False),
        ("", False),
    ],
)
def test_an_angiography_is_told_by_its_studys_description(study: str, angiography: bool) -> None:
    assert is_angiography(series("1", study_description=study)) is angiography


@pytest.mark.parametrize(
    ("change", "frontal"),
    [
        ({}, True),
        ({"description": "LATERAL"}, False),
        ({"description": "CHEST, PA & LATERAL"}, True),
        ({"body_part": "ABDOMEN"}, False),
        ({"body_part": "", "study_description": "FLAT PLATE OF ABDOMEN PORTABLE", "description": ""}, False),
        ({"study_description": "", "description": ""}, True),
    ],
)
def test_a_frontal_radiograph_is_told_by_its_words(change: dict, frontal: bool) -> None:
    assert is_frontal_chest(series("1", "CR", **change), Rules()) is frontal


def test_of_several_series_the_soft_and_thin_one_is_taken_with_the_nearest_radiograph() -> None:
    rows = [
        series("sharp", description="LUNG 1.25 MM", images=240),
        series("thick", description="5 MM STANDARD", images=60),
        series("thin", description="CHEST 1.25 MM", images=235),
        series("coronal", description="1 25 MM CORONAL", images=240),
        series("day before", "CR", date=date(2020, 2, 29)),
        series("same day", "DX"),
        series("two days later", "CR", date=date(2020, 3, 3)),
    ]
    (pair,) = select_pairs(rows, Rules())
    assert (pair.ct.uid, pair.radiograph.uid, pair.days) == ("thin", "same day", 0)
    assert [one.uid for one in pair.others] == ["day before"]
    assert pair.angiography
    (wide,) = select_pairs(rows, Rules(days=3))
    assert [one.uid for one in wide.others] == ["day before", "two days later"]
    assert select_pairs([one for one in rows if one.uid != "thin"], Rules())[0].ct.uid == "thick"


def test_dates_that_are_equal_missing_or_too_far_apart() -> None:
    undated = [series("ct", collection=LIDC), series("cxr", "DX", collection=LIDC)]
    assert select_pairs(undated, Rules())[0].days is None  # this collection has one date for everything
    missing = [series("ct", date=None), series("cxr", "CR")]
    assert select_pairs(missing, Rules()) == []
    far = [series("ct"), series("cxr", "CR", date=date(2020, 3, 3))]
    assert select_pairs(far, Rules(days=1)) == []
    assert select_pairs(far, Rules(days=2))[0].days == -2


def test_licences_and_collections_that_are_not_allowed_are_left_out() -> None:
    rows = [series("ct"), series("cxr", "CR", licence="CC BY 3.0")]
    assert len(select_pairs(rows, Rules())) == 1
    assert select_pairs(rows, Rules(licences=("CC BY 4.0",))) == []
    assert select_pairs(rows, Rules(collections=(LIDC,))) == []
    assert select_pairs([series("ct", study_description="CT CHEST"), rows[1]], Rules(angiography=True)) == []


def test_a_patient_in_two_collections_gives_two_pairs_in_one_split() -> None:
    rows = [
        one
        for c in (SBU, LIDC)
        for one in (series(f"ct {c}", collection=c), series(f"x {c}", "CR", collection=c))
    ]
    pairs = select_pairs(rows, Rules())
    assert {pair.ct.collection for pair in pairs} == {SBU, LIDC}
    assert len({pair.split for pair in pairs}) == 1
    assert len({pair.id for pair in pairs}) == 2


def test_the_split_is_fixed_and_near_its_shares() -> None:
    splits = [split_of(f"patient {number}") for number in range(2000)]
    assert splits == [split_of(f"patient {number}") for number in range(2000)]
    assert splits.count("test") == pytest.approx(400, abs=60)
    assert splits.count("validation") == pytest.approx(200, abs=45)
    assert split_of("A130012") == "train"  # a change of the rule would move everybody


def test_patients_pairs_and_examinations_are_counted() -> None:
    rows = [
        series("ct1"),
        series("reformat", description="CORONAL PE MIP"),  # counts: the examination is one
        series("x1", "CR"),
        series("x2", "CR", study="another", date=date(2020, 3, 2)),
        series("x3", "CR", study="late", date=date(2020, 3, 4)),
        series("ct2", patient="B", study="b", study_description="CT CHEST WO IV CONT"),
        series("xb", "DX", patient="B", date=date(2020, 3, 3)),
        series("few", patient="C", images=39),
        series("xc", "DX", patient="C"),
    ]
    assert count_patients(rows, Rules()) == {SBU: Count(1, 2, 1, 1, 2, 3, 1, 1)}


def test_the_index_is_read_without_what_others_made_of_it(tmp_path: Path) -> None:
    rows = [series("1.2", body_part=""), series("1.1", "CR", date=None, doi="")]
    path = write_index(tmp_path / "index.parquet", [*rows, series("1.3", collection="nlst")])
    assert read_index(path, COLLECTIONS) == [rows[1], rows[0]]
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"text\.parquet"):
        read_index(tmp_path / "text.parquet", COLLECTIONS)
    with pytest.raises(InputError, match="no file"):
        read_index(tmp_path / "gone.parquet", COLLECTIONS)


def test_an_index_with_other_columns_and_incomplete_rows_is_read(tmp_path: Path) -> None:
    rows = [series("1.1"), series("1.2", "CR"), series("1.3", date=None)]
    rows += [series(uid) for uid in ("1.4", "1.5", "1.6", "1.7")]
    write_index(tmp_path / "index.parquet", rows)
    with duckdb.connect() as connection:
        connection.execute(
            "copy (select * exclude (BodyPartExamined, source_DOI, analysis_result_id, StudyDate), "
            "replace(StudyDate, '-', '')::bigint as StudyDate, 'new' as Kernel "
            f"from read_parquet('{tmp_path / 'index.parquet'}') where SeriesInstanceUID != '1.9') "
            f"to '{tmp_path / 'newer.parquet'}' (format parquet)"
        )
        connection.execute(f"create table t as select * from read_parquet('{tmp_path / 'newer.parquet'}')")
        connection.execute("update t set series_size_MB = null where SeriesInstanceUID = '1.4'")
        connection.execute("update t set PatientID = '' where SeriesInstanceUID = '1.5'")
        connection.execute("update t set series_size_MB = 'nan' where SeriesInstanceUID = '1.6'")
        connection.execute("update t set instanceCount = 0 where SeriesInstanceUID = '1.7'")
        connection.execute(f"copy t to '{tmp_path / 'gaps.parquet'}' (format parquet)")
        connection.execute("alter table t drop instanceCount")
        connection.execute(f"copy t to '{tmp_path / 'useless.parquet'}' (format parquet)")
    bare = {"body_part": "", "doi": ""}
    expected = [dataclasses.replace(one, **bare) for one in rows]
    assert read_index(tmp_path / "newer.parquet", COLLECTIONS) == expected
    assert read_index(tmp_path / "gaps.parquet", COLLECTIONS) == expected[:3]
    assert len(select_pairs(expected, Rules())) == 1
    with pytest.raises(InputError, match=r"none called instanceCount in .*useless\.parquet"):
        read_index(tmp_path / "useless.parquet", COLLECTIONS)


def test_an_identifier_that_is_no_name_of_a_folder_stays_inside_the_cohort(tmp_path: Path) -> None:
    patients = ["../../etc", "A/B", "A B", "A_B", ".hidden", 'Ärztin, "1"', "x" * 300]
    rows = [
        one
        for n, patient in enumerate(patients)
        for one in (series(f"ct{n}", patient=patient), series(f"x{n}", "CR", patient=patient))
    ]
    pairs = select_pairs(rows, Rules())
    write_pairs(tmp_path, pairs, Rules(), "25.0.5")
    assert {pair.ct.patient for pair in read_pairs(tmp_path)} == set(patients)
    folders = [series_folder(tmp_path, pair.ct) for pair in pairs]
    assert len({folder.parent for folder in folders}) == len(patients)
    assert len({pair.id for pair in pairs}) == len(patients)
    for folder in folders:
        assert folder.resolve().is_relative_to(tmp_path / "dicom" / SBU)
        folder.mkdir(parents=True)
    assert series_folder(tmp_path, series("1.2.3")) == tmp_path / "dicom" / SBU / "A" / "1.2.3"


def test_a_table_is_read_as_it_was_written_and_not_after_a_change(tmp_path: Path) -> None:
    rows = [
        series("ct", description='CHEST, "thin"'),
        series("x", "CR"),
        series("x2", "DX", date=date(2020, 3, 2)),
    ]
    pairs = select_pairs(rows, Rules())
    digest = write_pairs(tmp_path, pairs, Rules(), "25.0.5")
    assert read_pairs(tmp_path) == pairs
    assert json.loads((tmp_path / RULES_FILE).read_text())["sha256"] == digest
    assert write_pairs(tmp_path / "again", pairs, Rules(), "25.0.5") == digest
    changed = (tmp_path / TABLE_FILE).read_text().replace(pairs[0].split, "test " + pairs[0].split)
    (tmp_path / TABLE_FILE).write_text(changed)
    with pytest.raises(InputError, match="changed after it was selected"):
        read_pairs(tmp_path)


def test_a_series_is_there_whole_or_not_at_all_and_the_others_go_on(tmp_path: Path) -> None:
    rows = [series(uid, images=2, megabytes=0.002) for uid in ("good", "short", "large", "refused")]
    files = {"good": (1000, 1000), "short": (1000,), "large": (12_500, 1000)}

    def store(one, target):
        if one.uid == "refused":
            raise OSError("connection reset")
        for number, size in enumerate(files[one.uid]):
            (target / f"{number}.dcm").write_bytes(bytes(size))

    done = fetch_series(tmp_path, rows, store)
    assert (done.complete, done.former) == (1, 0)
    assert sorted(p.name for p in series_folder(tmp_path, rows[0]).parent.iterdir()) == ["good"]
    wrong = {
        e["series"]: e["wrong"] for e in map(json.loads, (tmp_path / ERRORS_FILE).read_text().splitlines())
    }
    assert wrong["short"] == "expected 2 files, got 1"
    assert wrong["large"] == "expected 0.00 MB, got 0.01"
    assert "connection reset" in wrong["refused"]
    files["short"] = (1000, 1000)
    again = fetch_series(tmp_path, rows, store)
    assert (again.complete, again.former, len(again.failed)) == (2, 1, 2)
    with pytest.raises(OutputError, match="MB of free disk"):
        fetch_series(tmp_path, [series("huge", megabytes=1e9)], store)


def test_one_truncated_object_of_a_large_series_is_noticed(tmp_path: Path) -> None:
    def store(_one, target):
        for number in range(100):
            (target / f"{number}.dcm").write_bytes(bytes(40_000 if number else 20_000))

    done = fetch_series(tmp_path, [series("ct", images=100, megabytes=4.0)], store)
    assert done.failed == ("ct of A: expected 4.00 MB, got 3.98",)


def test_a_disk_that_becomes_full_ends_the_run_and_whole_series_stay(tmp_path: Path) -> None:
    def store(one, target):
        (target / "1.dcm").write_bytes(bytes(1_000_000))
        if one.uid == "second":
            raise OSError(errno.ENOSPC, "No space left on device")

    rows = [series(uid, images=1, megabytes=1.0) for uid in ("first", "second", "third")]
    with pytest.raises(OutputError, match="got a full disk"):
        fetch_series(tmp_path, rows, store)
    folder = series_folder(tmp_path, rows[0]).parent
    assert [place.name for place in folder.iterdir()] == ["first"]
    with mounted(tmp_path / "disk", "size=3m") as disk:
        other = disk / "other"

        def filling(one, target):
            store(dataclasses.replace(one, uid="first"), target)
            other.write_bytes(bytes(1_500_000))  # somebody else's

        with pytest.raises(OutputError, match="MB of free disk for second, got a full disk"):
            fetch_series(disk, rows[:2], filling)
        other.unlink()
        assert fetch_series(disk, rows[:2], lambda _one, target: store(rows[0], target)).former == 1


def test_two_runs_in_one_folder_bring_each_series_whole(tmp_path: Path) -> None:
    """Another run fetches everything while the store of this one is writing its first series."""
    rows = [series(uid, images=2, megabytes=0.002) for uid in ("first", "second")]

    def slow(one, target):
        (target / "0.dcm").write_bytes(bytes(1000))
        assert exit_code(fetch_zeros, tmp_path, rows) == 0
        (target / "1.dcm").write_bytes(bytes(1000))

    done = fetch_series(tmp_path, rows, slow)
    assert (done.complete, done.failed) == (2, ())
    places = {place.name: place for place in series_folder(tmp_path, rows[0]).parent.iterdir()}
    assert sorted(places) == ["first", "second"]
    assert all(len(list(place.iterdir())) == 2 for place in places.values())


def test_what_failed_is_listed_also_where_the_run_ends_early(tmp_path: Path) -> None:
    rows = [series("bad", images=1, megabytes=0.0), series("last", images=1, megabytes=0.0)]

    def store(one, target):
        if one.uid == "last":
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError):
        fetch_series(tmp_path, rows, store)
    (entry,) = [json.loads(line) for line in (tmp_path / ERRORS_FILE).read_text().splitlines()]
    assert (entry["series"], entry["wrong"]) == ("bad", "expected 1 files, got 0")


def test_one_series_in_two_collections_is_fetched_for_both(tmp_path: Path) -> None:
    rows = [one for c in (SBU, LIDC) for one in (series("ct", collection=c), series("x", "CR", collection=c))]
    needed = needed_series(select_pairs(rows, Rules()))
    assert sorted((one.collection, one.uid) for one in needed) == [
        (SBU, "ct"), (SBU, "x"), (LIDC, "ct"), (LIDC, "x")
    ]  # fmt: skip


def test_a_store_out_of_reach_is_not_asked_for_every_series(tmp_path: Path) -> None:
    asked = []

    def store(one, _target):
        asked.append(one.uid)
        raise OSError("no such host")

    rows = [series(f"{number}") for number in range(9)]
    with pytest.raises(InputError, match="4 failures in a row; the last: OSError: no such host"):
        fetch_series(tmp_path, rows, store, patience=4)
    assert len(asked) == 4
    assert len(fetch_series(tmp_path, rows, store).failed) == 9


def test_idc_index_is_called_as_it_is_made(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client with its own index; s5cmd, which alone uses the network, is a script that reads a folder."""
    bucket, tools = tmp_path / "bucket", tmp_path / "tools"
    tools.mkdir()
    (tools / "s5cmd").write_text(
        f"#!{sys.executable}\nimport pathlib, shlex, shutil, sys\n"
        'for line in open(sys.argv[-1]) if "run" in sys.argv else ():\n'
        "    _, source, target = shlex.split(line)\n"
        f"    uuid = source.split('/')[3]\n"
        f"    for file in (pathlib.Path({str(bucket)!r}) / uuid).iterdir():\n"
        "        shutil.copy(file, target)\n"
    )
    (tools / "s5cmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    rows = [one for one in read_index(index_path(), ["cmb_crc"]) if one.images == 1][:2]
    with duckdb.connect() as connection:
        found = "select crdc_series_uuid from read_parquet($path) where SeriesInstanceUID = $uid"
        for one in rows:
            (uuid,) = connection.execute(found, {"path": str(index_path()), "uid": one.uid}).fetchone()
            (bucket / uuid).mkdir(parents=True)
            (bucket / uuid / "1.dcm").write_bytes(bytes(round(one.megabytes * 1e6)))
    place = tmp_path / 'it\'s a "cohort"'
    stranger = series("1.2.3", images=1, megabytes=0.0)
    done = fetch_series(place, [*rows, stranger], script.commons_store(rows))
    assert done.complete == 2
    assert "got: No data found for the SeriesInstanceUID" in done.failed[0]
    assert [file.name for file in series_folder(place, rows[0]).iterdir()] == ["1.dcm"]


def radiograph_of(folder: Path, one: Series, files: dict[str, dict[str, Any]]) -> None:
    """Writes a radiograph series into a cohort: by file name, elements; ``pixels`` of "chest" or "noise"."""
    chest = np.rint(read_radiograph(SAMPLE_CXR).pixels[::2, ::2] * 4095).astype(np.uint16)
    noise = np.random.default_rng(1).integers(0, 4095, (256, 256), np.uint16)
    place = series_folder(folder, one)
    place.mkdir(parents=True)
    for name, elements in files.items():
        values = dict(elements)
        seen = {"chest": chest, "noise": noise, "negative": 4095 - chest}[values.pop("pixels", "chest")]
        write_dicom(place / name, seen, SeriesInstanceUID=one.uid, **values)


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        ({"1.dcm": {"PhotometricInterpretation": "MONOCHROME1", "pixels": "negative"}}, ""),
        ({"1.dcm": {"ViewPosition": "LL"}, "2.dcm": {"ViewPosition": "AP"}}, ""),
        ({"1.dcm": {"pixels": "noise"}, "2.dcm": {}}, "2.dcm"),  # no header says which one is frontal
        ({"1.dcm": {"ViewPosition": "LL"}, "2.dcm": {"pixels": "noise"}, "3.dcm": {}}, "3.dcm"),
    ],
)
def test_the_frontal_image_of_a_series_is_found(tmp_path: Path, files: dict, taken: str) -> None:
    ct, cxr = series("ct", images=12), series("x", "DX", images=len(files))
    write_series(series_folder(tmp_path, ct), phantom((48, 32, 32)), uid=ct.uid)
    radiograph_of(tmp_path, cxr, files)
    (pair,) = select_pairs([series("ct"), cxr], Rules())
    found = checked(tmp_path, str(LOCATOR), pair)
    assert found["radiograph"] == str((series_folder(tmp_path, cxr) / taken).relative_to(tmp_path))
    assert len(read_radiograph(tmp_path / found["radiograph"]).pixels) > 100


def test_a_radiograph_of_two_frames_is_left_for_the_next_one(tmp_path: Path) -> None:
    ct, first, second = series("ct"), series("x1", "DX"), series("x2", "CR", date=date(2020, 3, 2))
    write_series(series_folder(tmp_path, ct), phantom((48, 32, 32)), uid=ct.uid)
    radiograph_of(tmp_path, first, {"1.dcm": {"NumberOfFrames": 2}})
    (pair,) = select_pairs([ct, first, second], Rules())
    assert "Expected a frontal chest radiograph, got none" in checked(tmp_path, str(LOCATOR), pair)["wrong"]
    radiograph_of(tmp_path, second, {"1.dcm": {}})
    assert checked(tmp_path, str(LOCATOR), pair)["radiograph"].endswith("x2")


def moved_up(k: int, dataset: Any) -> None:
    """The upper half of the slices, 200 mm higher: a second acquisition, or a gap."""
    if k >= 24:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 200]


def acquired_twice(k: int, dataset: Any) -> None:
    """The upper half of the slices, at the places of the lower half."""
    if k >= 24:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z - 24 * 5]


def one_instance_twice(k: int, dataset: Any) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{max(k, 1)}"
    if k == 0:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 5]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (moved_up, "Expected slices every 5 mm, got 205 mm"),
        (acquired_twice, "Expected one slice at each place"),
        (one_instance_twice, "Expected one slice at each place"),
    ],
)
def test_a_ct_that_is_no_single_stack_is_left_out_and_said(tmp_path: Path, edit, reason: str) -> None:
    ct = series("ct")
    write_series(series_folder(tmp_path, ct), phantom((48, 32, 32)), edit, uid=ct.uid)
    (pair,) = select_pairs([ct, series("x", "DX")], Rules())
    assert checked(tmp_path, str(LOCATOR), pair)["wrong"].startswith(reason)


def test_a_ct_of_a_tilted_gantry_is_taken_and_a_coronal_one_is_not(tmp_path: Path) -> None:
    ct, cxr = series("ct"), series("x", "DX")
    (pair,) = select_pairs([ct, cxr], Rules())
    radiograph_of(tmp_path, cxr, {"1.dcm": {}})
    volume = phantom((48, 32, 32))
    affine = volume.affine.copy()
    affine[1, 2] = affine[2, 2] * np.tan(np.radians(15))
    write_series(series_folder(tmp_path, ct), Volume(volume.array, affine), uid=ct.uid)
    assert "wrong" not in checked(tmp_path, str(LOCATOR), pair)
    shutil.rmtree(series_folder(tmp_path, ct))
    coronal = volume.affine[:, [0, 2, 1, 3]]
    stack = Volume(volume.array.transpose(1, 0, 2), coronal)
    write_series(series_folder(tmp_path, ct), stack, uid=ct.uid)
    assert checked(tmp_path, str(LOCATOR), pair)["wrong"] == "Expected axial slices in ct, got others."


def test_from_the_index_to_studies_stopped_and_resumed(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = tmp_path / "store", tmp_path / "cohort"
    store.mkdir()
    index = write_index(tmp_path / "index.parquet", write_store(store))
    assert script.main(["select", str(out), "--index", str(index)]) == 0
    said = capsys.readouterr().out
    assert "6 pairs of 6 patients" in said
    first = (out / TABLE_FILE).read_bytes()
    assert script.main(["select", str(out), "--index", str(index)]) == 0
    assert (out / TABLE_FILE).read_bytes() == first
    capsys.readouterr()

    assert script.main(["fetch", str(out), "--store", str(store), "--first", "2"]) == 0
    assert "4 of 4 series are there, 0 of them from before" in capsys.readouterr().out
    shutil.rmtree(store / "1.2.3.3.1")  # a series that the store has lost
    assert script.main(["fetch", str(out), "--store", str(store)]) == 0
    captured = capsys.readouterr()
    assert "11 of 12 series are there, 4 of them from before" in captured.out
    assert "failed: 1.2.3.3.1 of P3" in captured.err

    assert script.main(["fetch", str(out), "--first", "2"]) == 0, "no store is asked for what is there"
    assert "4 of 4 series are there" in capsys.readouterr().out

    (tmp_path / "labels.csv").write_text("patient,label\nP0,1\nP1,0\n")
    assert script.main(["prepare", str(out), "--labels", str(tmp_path / "labels.csv"), "--workers", "1"]) == 0
    captured = capsys.readouterr()
    assert "3 studies" in captured.out
    assert "which is not fetched" in captured.err  # patient 3
    assert "the gate refuses it" in captured.err  # patient 4
    with (out / "studies.csv").open() as file:
        rows = {row["patient"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == ["P0", "P1", "P2"]
    assert [rows[p]["label"] for p in ("P0", "P1", "P2")] == ["1", "0", ""]
    studies = read_studies(StudySource("folder", str(out), str(out / "studies.csv")))
    assert all(study.volume.is_dir() and study.radiograph.is_dir() for study in studies)
    assert {study.split for study in studies} <= {"train", "validation", "test"}


def clinical_tables(folder: Path) -> Path:
    """A dictionary of clinical columns, and the one table that records embolism, as the Commons have them."""
    (folder / "sbu_clinical").mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(
            "create table d as select * from (values "
            f"('{SBU}', 'p.d.sbu_clinical', 'sbu_clinical', 'age', 'Age', ['60']), "
            f"('{SBU}', 'p.d.sbu_clinical', 'sbu_clinical', 'acute_pe', 'Pulm. embolism', ['Yes', 'No']), "
            "('nlst', 'p.d.nlst', 'nlst', 'embolus', '', ['1'])"
            ') as t(collection_id, table_name, short_table_name, "column", column_label, "values")'
        )
        connection.execute(f"copy d to '{folder / 'clinical_index.parquet'}' (format parquet)")
        connection.execute(
            "create table c as select * from (values ('P0', 'Yes'), ('P1', 'no'), ('P2', 'not known'), "
            "('P3', 'Yes'), ('P3', 'No'), ('stranger', 'Yes'), ('P4', null)) as t(dicom_patient_id, acute_pe)"
        )
        connection.execute(f"copy c to '{folder / 'sbu_clinical' / '0.parquet'}' (format parquet)")
    return folder


def test_only_columns_of_the_cohorts_collections_that_mention_embolism_are_listed(tmp_path: Path) -> None:
    tables = clinical_tables(tmp_path / "clinical")
    assert [column.name for column in embolism_columns(tables, [SBU, LIDC])] == ["acute_pe"]
    assert embolism_columns(tables, [LIDC]) == []
    with pytest.raises(InputError, match="no file"):
        embolism_columns(tmp_path, [SBU])


def test_labels_are_joined_by_patient_and_what_is_not_known_stays_unknown(tmp_path: Path) -> None:
    table = clinical_tables(tmp_path / "clinical") / "sbu_clinical"
    patients = [f"P{number}" for number in range(6)]
    joined = join_labels(table, "acute_pe", ["yes"], ["no"], patients)
    assert joined.labels == {"P0": 1, "P1": 0}
    assert joined.contradicted == ("P3",)
    assert joined.other_words == {"not known": 1}
    assert joined.unknown == 4
    (tmp_path / "labels.csv").write_text(labels_text(joined.labels))
    assert read_labels(tmp_path / "labels.csv") == joined.labels
    with pytest.raises(InputError, match="one thing, got no"):
        join_labels(table, "acute_pe", ["yes", "no"], ["no"], patients)
    with pytest.raises(InputError, match="Expected a table"):
        join_labels(table, "another", ["yes"], ["no"], patients)


def test_the_step_labels_lists_columns_and_writes_what_prepare_reads(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = str(clinical_tables(tmp_path / "clinical"))
    rows = [series("ct", patient="P0"), series("x", "CR", patient="P0")]
    write_pairs(tmp_path, select_pairs(rows, Rules()), Rules(), "25.0.5")
    assert script.main(["labels", str(tmp_path), "--tables", tables]) == 0
    assert "--table sbu_clinical --column acute_pe  Pulm. embolism" in capsys.readouterr().out
    chosen = ["--table", "sbu_clinical", "--column", "acute_pe", "--positive", "yes", "--negative", "no"]
    assert script.main(["labels", str(tmp_path), "--tables", tables, *chosen]) == 0
    assert "1 patients with PE, 0 without, 0 unknown" in capsys.readouterr().out
    assert read_labels(tmp_path / "labels.csv") == {"P0": 1}
    assert script.main(["labels", str(tmp_path), "--tables", tables, *chosen[:4]]) == 2
    assert "--positive and --negative" in capsys.readouterr().err


def test_the_cost_is_so_many_times_what_one_unit_was_measured_to_take() -> None:
    loop = SimpleNamespace(steps=300, batch_size=4, learning_rate=1e-3)
    planned = [
        SimpleNamespace(name="ctpa", kind="ctpa", settings=SimpleNamespace()),
        SimpleNamespace(name="denoiser", kind="spatial-denoiser", settings=loop),
        SimpleNamespace(name="unmeasured", kind="vqgan", settings=loop),
        SimpleNamespace(name="pack", kind="pack", settings=SimpleNamespace(steps=10)),
        SimpleNamespace(name="table-1", kind="reconstruction", settings=SimpleNamespace()),
    ]
    measured = Machine(
        "one core",
        False,
        {
            "ctpa": {"seconds": 16.0, "megabytes": 2.0},
            "denoiser": {"seconds": 0.5, "megabytes": 7.0},
            "pack": {"seconds": 3.0, "sampling_step_seconds": 0.2, "megabytes": 9.0},
        },
    )
    assert list(recipe_cost(planned, 50, 10, measured)) == [
        StepCost("ctpa", 50, "study", 800.0, 100.0),
        StepCost("denoiser", 300, "step", 150.0, 7.0, 4),
        StepCost("unmeasured", 300, "step", None, None, 4),
        StepCost("evaluation", 90, "sample", 450.0, 9.0),  # nine samples of each test pair, 3 + 10 x 0.2 s
    ]


def test_what_was_measured_of_another_recipe_or_machine_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    record = {"machine": {"processor": "X", "gpu": "H"}, "recipe": "mine", "steps": {"ctpa": {"seconds": 1}}}
    path.write_text(json.dumps(record))
    assert read_measured(path, "mine") == Machine("H", True, {"ctpa": {"seconds": 1}})
    assert read_measured(path, "other").steps == {}
    path.write_text(json.dumps({"machine": {"processor": "X", "gpu": ""}, "recipes": {"other": {"a": {}}}}))
    assert read_measured(path, "other") == Machine("one core of X", False, {"a": {}})
    path.write_text("{}")
    with pytest.raises(InputError, match=r"Expected what measure_recipe\.py measured"):
        read_measured(path, "mine")


@pytest.mark.parametrize("recipe", ["open-pairs", "x-ray2ctpa-open-pairs", "xctdiff-open-pairs"])
def test_the_cost_is_said_in_gigabytes_hours_and_steps(
    script: ModuleType, repository: Path, tmp_path: Path, capsys, monkeypatch, recipe: str
) -> None:
    monkeypatch.syspath_prepend(str(repository / "Training"))
    rows = [series("ct", patient="P0"), series("x", "CR", patient="P0")]
    write_pairs(tmp_path, select_pairs(rows, Rules()), Rules(), "25.0.5")
    assert script.main(["cost", str(tmp_path), recipe, "--run", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert f"1 pairs by {recipe}; 0.0 GB are still to be fetched" in said
    assert "on a GPU: not measured" in said
    assert f"measure_recipe.py {recipe}" in said
    assert re.search(r"ctpa +1 study +\d", said), "measured"
    if recipe == "open-pairs":
        assert re.search(r"xray-encoder +2800 step of 8 +0\.0 +0\.6", said)
        assert "not measured" not in said.replace("on a GPU: not measured", "")
    elif recipe == "xctdiff-open-pairs":
        assert re.search(r"vqgan +80000 step of 1 +0\.0 +2153\.3", said)
        assert re.search(r"prior-denoiser +100000 step of 8 +not measured +3166\.7", said)
        assert "were not measured" not in said, "of every step the time is known"
    else:
        assert re.search(r"evaluation +\d+ sample +not measured +not measured", said)
    assert not (tmp_path / "run").exists()


def test_prepare_reads_no_pair_twice_and_another_choice_anew(tmp_path: Path) -> None:
    rows = [
        one
        for number in range(3)
        for one in (
            series(f"ct{number}", patient=f"P{number}"),
            series(f"x{number}", "CR", patient=f"P{number}"),
        )
    ]
    pairs = select_pairs(rows, Rules())
    read = []

    def engine(make, missing, workers, killed):
        for pair in missing:
            read.append(pair.ct.uid)
            found = {"volume": f"{pair.ct.uid}", "radiograph": pair.radiograph.uid}
            for place in found.values():
                (tmp_path / place).mkdir(exist_ok=True)
            yield pair, {"wrong": "short"} if pair.ct.uid == "ct1" else found

    def prepared(chosen):
        return prepare_pairs(tmp_path, chosen, tmp_path / "bundle" / "locator", {"P0": 1}, engine=engine)

    assert prepared(pairs) == Prepared(2, 0, (f"{pairs[1].id}: short",))
    with (tmp_path / "prepared.jsonl").open("a") as file:
        file.write('{"key": "cut o')  # by a kill
    assert prepared(pairs).former == 2
    whole = (tmp_path / "prepared.jsonl").read_text()
    (tmp_path / "prepared.jsonl").write_text("null\n" + whole)
    with pytest.raises(InputError, match=r"prepared\.jsonl, line 1"):
        prepared(pairs)
    (tmp_path / "prepared.jsonl").write_text('{"key": "another"}\n' + whole)
    with pytest.raises(InputError, match=r"prepared\.jsonl, got a line without 'volume'"):
        prepared(pairs)
    (tmp_path / "prepared.jsonl").write_text(whole)
    assert read == ["ct0", "ct1", "ct2", "ct1"], "a pair that failed is tried again"
    other = dataclasses.replace(pairs[0], radiograph=series("another", "DX", patient="P0"))
    assert prepared([other, *pairs[1:]]).former == 1
    (tmp_path / "ct2").rmdir()
    assert prepared(pairs).former == 1, "images that were removed since are not there"
    with (tmp_path / "studies.csv").open() as file:
        assert [(row["patient"], row["label"]) for row in csv.DictReader(file)] == [("P0", "1"), ("P2", "")]


def test_the_installed_index_gives_the_published_counts_and_split(tmp_path: Path) -> None:
    if index_version() != TESTED_INDEX:
        pytest.skip(f"the counts are those of the index {TESTED_INDEX}, {index_version()} is installed")
    rows = read_index(index_path(), COLLECTIONS)
    counts = count_patients(rows, Rules())
    assert counts[SBU] == Count(371, 397, 84, 97, 126, 210, 88, 102)
    assert (counts[LIDC].patients, counts[LIDC].angiography_patients) == (290, 19)
    assert (counts["covid_19_ar"].patients, counts["covid_19_ar"].angiography_patients) == (17, 13)
    assert sum(count.patients for count in counts.values()) - 371 - 290 - 17 == 25
    pairs = select_pairs(rows, Rules())
    assert [sum(pair.split == s for pair in pairs) for s in ("train", "validation", "test")] == [464, 75, 121]
    digest = write_pairs(tmp_path, pairs, Rules(), TESTED_INDEX)
    page = (TRAINING.parent / "docs" / "open-pairs.md").read_text(encoding="utf-8")
    assert f"`{digest}`" in page
    for pair in pairs:
        assert f"| {pair.ct.collection} | {pair.ct.licence} | {pair.ct.doi} |" in page


def test_wrong_arguments_are_said_in_two_lines(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["fetch", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert said.count("\n") <= 2
    assert PORTABLE not in said
