"""Open pairs: rules on rows whose right answer is seen, and the way from the index to the study table."""

import csv
import dataclasses
import importlib.util
import json
import shutil
from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace

import duckdb
import pytest
from commons import ANGIO, PORTABLE, SBU, series, write_index, write_store

from xray2ctpa_core.data.open_pairs.cost import CT_SECONDS, StepCost, recipe_cost
from xray2ctpa_core.data.open_pairs.fetch import ERRORS_FILE, fetch_series, series_folder
from xray2ctpa_core.data.open_pairs.labels import embolism_columns, join_labels, labels_text, read_labels
from xray2ctpa_core.data.open_pairs.pairs import Count, count_patients, select_pairs, split_of
from xray2ctpa_core.data.open_pairs.prepare import Prepared, prepare_pairs
from xray2ctpa_core.data.open_pairs.rules import (
    COLLECTIONS,
    Rules,
    is_angiography,
    is_axial_chest,
    is_frontal_chest,
)
from xray2ctpa_core.data.open_pairs.series import index_path, index_version, read_index
from xray2ctpa_core.data.open_pairs.table import RULES_FILE, TABLE_FILE, read_pairs, write_pairs
from xray2ctpa_core.data.sources.source import StudySource, read_studies
from xray2ctpa_core.errors import InputError, OutputError

TRAINING = Path(__file__).resolve().parents[2] / "Training"
LIDC = "lidc_idri"


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
    files = {"good": (1000, 1000), "short": (1000,), "large": (500_000, 1000)}

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
    assert wrong["large"].startswith("expected 0.00 MB, got 0.50")
    assert "connection reset" in wrong["refused"]
    files["short"] = (1000, 1000)
    again = fetch_series(tmp_path, rows, store)
    assert (again.complete, again.former, len(again.failed)) == (2, 1, 2)
    with pytest.raises(OutputError, match="MB of free disk"):
        fetch_series(tmp_path, [series("huge", megabytes=1e9)], store)


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


def test_the_cost_of_a_recipe_is_its_voxels_and_its_steps() -> None:
    ctpa = SimpleNamespace(name="ctpa", kind="ctpa", settings=SimpleNamespace(shape=(10, 100, 100)))
    loop = SimpleNamespace(steps=300, batch_size=4, learning_rate=1e-3)
    trained = SimpleNamespace(name="denoiser", kind="spatial-denoiser", settings=loop)
    latents = SimpleNamespace(name="latents", kind="latents", settings=SimpleNamespace())
    found = list(recipe_cost([ctpa, latents, trained], 50))
    assert found[0] == StepCost("ctpa", megabytes=10.0, seconds=50 * CT_SECONDS)
    assert found[1] == StepCost("latents", megabytes=7.5)
    assert found[2] == StepCost("denoiser", steps=300, batch=4)


def test_the_cost_is_said_in_gigabytes_minutes_and_steps(
    script: ModuleType, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "Training"))
    rows = [series("ct", patient="P0"), series("x", "CR", patient="P0")]
    write_pairs(tmp_path, select_pairs(rows, Rules()), Rules(), "25.0.5")
    assert script.main(["cost", str(tmp_path), "open-pairs", "--run", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "1 pairs by open-pairs" in said
    assert "2800 x 8" in said
    assert "GB are free" in said
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
            yield pair, {"wrong": "short"} if pair.ct.uid == "ct1" else found

    def prepared(chosen):
        return prepare_pairs(tmp_path, chosen, tmp_path / "bundle" / "locator", {"P0": 1}, engine=engine)

    assert prepared(pairs) == Prepared(2, 0, (f"{pairs[1].id}: short",))
    with (tmp_path / "prepared.jsonl").open("a") as file:
        file.write('{"key": "cut o')  # by a kill
    assert prepared(pairs).former == 2
    assert read == ["ct0", "ct1", "ct2", "ct1"], "a pair that failed is tried again"
    other = dataclasses.replace(pairs[0], radiograph=series("another", "DX", patient="P0"))
    assert prepared([other, *pairs[1:]]).former == 1
    with (tmp_path / "studies.csv").open() as file:
        assert [(row["patient"], row["label"]) for row in csv.DictReader(file)] == [("P0", "1"), ("P2", "")]


def test_the_installed_index_gives_the_published_counts() -> None:
    if index_version() != "25.0.5":
        pytest.skip(f"the counts are those of the index 25.0.5, {index_version()} is installed")
    counts = count_patients(read_index(index_path(), COLLECTIONS), Rules())
    assert counts[SBU] == Count(371, 397, 84, 97, 126, 210, 88, 102)
    assert (counts[LIDC].patients, counts[LIDC].angiography_patients) == (290, 19)
    assert (counts["covid_19_ar"].patients, counts["covid_19_ar"].angiography_patients) == (17, 13)


def test_wrong_arguments_are_said_in_two_lines(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["fetch", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert said.count("\n") <= 2
    assert PORTABLE not in said
