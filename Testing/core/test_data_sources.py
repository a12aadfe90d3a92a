"""Each data set in its own layout: what is read, and what is refused with file and row."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ct_series import write_rows

from xray2ctpa_core.config import from_mapping
from xray2ctpa_core.data.sources.ct_rate import read_ct_rate
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.data.sources.inspect_ctpa import read_inspect
from xray2ctpa_core.data.sources.lidc import read_lidc
from xray2ctpa_core.data.sources.papers import read_papers
from xray2ctpa_core.data.sources.rspect import read_rspect
from xray2ctpa_core.data.sources.source import StudySource, read_studies
from xray2ctpa_core.data.sources.table import read_table
from xray2ctpa_core.errors import ConfigError, InputError

RSPECT = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "negative_exam_for_pe", "indeterminate")
LIDC = ("Series UID", "Subject ID", "Modality", "File Location")
PAPERS = ("CT_Accession_number", "cxr_Accession_number", "PE")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


# --- RSPECT


def rspect(root: Path, *rows: tuple) -> Path:
    for study, series, image, *_ in rows:
        touch(root / study / series / f"{image}.dcm")
    return write_rows(root / "train.csv", RSPECT, rows)


def test_rspect_has_one_row_an_image_and_its_label_is_one_minus_the_negative_exam(tmp_path: Path) -> None:
    table = rspect(
        tmp_path,
        ("1.1", "2.1", "3.1", 1, 0),
        ("1.1", "2.1", "3.2", 1, 0),
        ("1.2", "2.2", "3.3", 0, 0),
        ("1.3", "2.3", "3.4", 0, 1),
    )

    studies = read_rspect(tmp_path, table)

    assert [(s.id, s.label, s.where) for s in studies] == [
        ("1.1", 0, "train.csv, row 2"),
        ("1.2", 1, "train.csv, row 4"),
        ("1.3", None, "train.csv, row 5"),
    ]
    assert studies[1].volume == tmp_path / "1.2" / "2.2"
    assert [s.label for s in read_rspect(tmp_path, table, indeterminate_as_pe=True)] == [0, 1, 1]


def test_rspect_names_two_series_of_one_study_apart(tmp_path: Path) -> None:
    table = rspect(tmp_path, ("1.1", "2.1", "3.1", 1, 0), ("1.1", "2.2", "3.2", 1, 0))

    studies = read_rspect(tmp_path, table)

    assert [(s.id, s.patient) for s in studies] == [("1.1-2.1", "1.1"), ("1.1-2.2", "1.1")]


def test_rspect_refuses_rows_that_disagree_and_files_that_are_missing(tmp_path: Path) -> None:
    table = rspect(tmp_path, ("1.1", "2.1", "3.1", 1, 0), ("1.1", "2.1", "3.2", 0, 0))
    with pytest.raises(InputError, match=r"got 0 in train.csv, row 2 and 1 in train.csv, row 3"):
        read_rspect(tmp_path, table)

    table = rspect(tmp_path, ("1.1", "2.1", "3.1", 1, 0), ("1.1", "2.1", "3.2", 1, 0))
    (tmp_path / "1.1" / "2.1" / "3.2.dcm").unlink()
    with pytest.raises(InputError, match=r"3.2.dcm in .*train.csv, row 3"):
        read_rspect(tmp_path, table)
    assert len(read_rspect(tmp_path, table, check_files=False)) == 1

    write_rows(table, RSPECT, [("1.9", "2.9", "3.9", 1, 0)])
    with pytest.raises(InputError, match=r"2.9, got no such file or folder \(train.csv, row 2\)"):
        read_rspect(tmp_path, table)


# --- LIDC-IDRI


def lidc(root: Path, *rows: tuple) -> Path:
    for _, _, _, location in rows:
        touch(root / location.replace("\\", "/") / "1-01.dcm")
    return write_rows(root / "metadata.csv", LIDC, rows)


def test_lidc_pairs_each_ct_with_its_subjects_radiographs(tmp_path: Path) -> None:
    base = "./LIDC-IDRI/LIDC-IDRI-000"
    table = lidc(
        tmp_path,
        ("a", "LIDC-IDRI-0001", "DX", f"{base}1/01-01-2000-35511/3000923.000000-62357"),
        ("b", "LIDC-IDRI-0001", "CT", f"{base}1/01-01-2000-30178/3000566.000000-03192"),
        ("c", "LIDC-IDRI-0002", "CT", ".\\LIDC-IDRI\\LIDC-IDRI-0002\\scan"),
        ("d", "LIDC-IDRI-0002", "SEG", f"{base}2/seg"),
        ("e", "LIDC-IDRI-0003", "CR", f"{base}3/radiographs/front"),
        ("f", "LIDC-IDRI-0003", "CR", f"{base}3/radiographs/side"),
        ("g", "LIDC-IDRI-0003", "CT", f"{base}3/scan"),
    )

    first, second, third = read_lidc(tmp_path, table)

    tree = tmp_path / "LIDC-IDRI"
    assert (first.id, first.label, first.where) == ("LIDC-IDRI-0001", None, "metadata.csv, row 3")
    assert first.volume == tree / "LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192"
    assert first.radiograph == tree / "LIDC-IDRI-0001/01-01-2000-35511/3000923.000000-62357"
    assert (second.volume, second.radiograph) == (tree / "LIDC-IDRI-0002" / "scan", None)
    assert third.radiograph == tree / "LIDC-IDRI-0003" / "radiographs"


def test_lidc_refuses_a_series_that_was_not_downloaded(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "metadata.csv", LIDC, [("a", "LIDC-IDRI-0001", "CT", "./LIDC-IDRI/x")])

    with pytest.raises(InputError, match=r"no such file or folder \(metadata.csv, row 2\)"):
        read_lidc(tmp_path, table)


# --- INSPECT


def inspect_release(root: Path, labels: list, mapping: list, splits: list) -> None:
    write_rows(root / "labels_20250611.tsv", ("impression_id", "pe_positive_nlp", "pe_acute"), labels)
    write_rows(root / "study_mapping_20250611.tsv", ("impression_id", "person_id", "image_id"), mapping)
    write_rows(root / "splits_20250611.tsv", ("impression_id", "person_id", "split"), splits)
    for _, _, image in mapping:
        touch(root / "CTPA" / f"{image.removesuffix('.nii.gz')}.nii.gz")


def test_inspect_joins_its_tables_by_impression(tmp_path: Path) -> None:
    inspect_release(
        tmp_path,
        [("10", "True", "1"), ("11", "False", "0"), ("12", "Censored", "0")],
        [("12", "p2", "PE12"), ("11", "p1", "PE11.nii.gz"), ("10", "p1", "PE10")],
        [("10", "p1", "train"), ("11", "p1", "train"), ("12", "p2", "test")],
    )

    studies = read_inspect(tmp_path)

    assert [(s.id, s.patient, s.label, s.split) for s in studies] == [
        ("PE10", "p1", 1, "train"),
        ("PE11", "p1", 0, "train"),
        ("PE12", "p2", None, "test"),
    ]
    assert studies[1].volume == tmp_path / "CTPA" / "PE11.nii.gz"
    assert [s.label for s in read_inspect(tmp_path, label="pe_acute")] == [1, 0, 0]


def test_inspect_in_one_table_is_read_too(tmp_path: Path) -> None:
    touch(tmp_path / "CTPA" / "PE10.nii.gz")
    header = ("image_id", "person_id", "pe_positive_nlp", "split")
    table = write_rows(tmp_path / "cohort.csv", header, [("PE10", "p1", "True", "valid")])

    (study,) = read_inspect(tmp_path, table)

    assert (study.id, study.patient, study.label, study.split) == ("PE10", "p1", 1, "valid")


def test_inspect_refuses_a_patient_in_two_splits_and_an_incomplete_join(tmp_path: Path) -> None:
    inspect_release(
        tmp_path,
        [("10", "True", "1"), ("11", "False", "0")],
        [("10", "p1", "PE10"), ("11", "p1", "PE11")],
        [("10", "p1", "train"), ("11", "p1", "test")],
    )
    said = r"got p1 in train \(labels_20250611.tsv, row 2\) and in test \(labels_20250611.tsv, row 3\)"
    with pytest.raises(InputError, match=said):
        read_inspect(tmp_path)

    write_rows(tmp_path / "splits_20250611.tsv", ("impression_id", "split"), [("10", "train")])
    with pytest.raises(InputError, match=r"Expected 11 of labels_20250611.tsv, row 3 in splits"):
        read_inspect(tmp_path)
    (tmp_path / "splits_20250611.tsv").unlink()
    with pytest.raises(InputError, match=r"splits_\*.tsv in"):
        read_inspect(tmp_path)


# --- CT-RATE


@pytest.mark.parametrize("above", ["", "train", "train_fixed"])
def test_ct_rate_reads_patient_and_split_off_the_name(above: str, tmp_path: Path) -> None:
    volume = touch(tmp_path / above / "train_12" / "train_12_a" / "train_12_a_2.nii.gz")
    table = write_rows(tmp_path / "t.csv", ("VolumeName", "Emphysema"), [("train_12_a_2.nii.gz", 1)])

    (study,) = read_ct_rate(tmp_path, table)
    (labelled,) = read_ct_rate(tmp_path, table, label="Emphysema")

    assert (study.id, study.patient, study.split) == ("train_12_a_2", "train_12", "train")
    assert (study.volume, study.label, study.correction) == (volume, None, None)
    assert labelled.label == 1


def test_ct_rate_takes_scale_and_spacing_from_its_metadata(tmp_path: Path) -> None:
    name = "valid_1_a_1.nii.gz"
    touch(tmp_path / "valid_1" / "valid_1_a" / name)
    table = write_rows(tmp_path / "t.csv", ("VolumeName",), [(name,)])
    header = ("VolumeName", "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing")
    metadata = write_rows(tmp_path / "m.csv", header, [(name, 1, -8192, "[0.7, 0.8]", 1.5)])

    (study,) = read_ct_rate(tmp_path, table, metadata)

    assert study.correction is not None
    assert (study.correction.slope, study.correction.intercept) == (1.0, -8192.0)
    assert study.correction.spacing_mm == (0.8, 0.7, 1.5)
    write_rows(metadata, header, [(name, "x", -8192, "[0.7, 0.8]", 1.5)])
    with pytest.raises(InputError, match=r"number in column RescaleSlope, got 'x' in m.csv, row 2"):
        read_ct_rate(tmp_path, table, metadata)
    write_rows(metadata, header, [("other.nii.gz", 1, 0, "[1, 1]", 1)])
    with pytest.raises(InputError, match=r"valid_1_a_1.nii.gz of t.csv, row 2 in m.csv, got no such row"):
        read_ct_rate(tmp_path, table, metadata)


def test_ct_rate_refuses_another_name(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "t.csv", ("VolumeName",), [("scan.nii.gz",)])

    with pytest.raises(InputError, match=r"like train_1_a_1.nii.gz, got scan.nii.gz in t.csv, row 2"):
        read_ct_rate(tmp_path, table)


# --- the papers' table


def test_the_papers_table_pairs_ct_and_radiograph_by_accession(tmp_path: Path) -> None:
    touch(tmp_path / "ct" / "A1.nii.gz")
    touch(tmp_path / "ct" / "A2" / "1.dcm")
    for name in ("X1.png", "X2.dcm"):
        touch(tmp_path / "cxr" / name)
    table = write_rows(tmp_path / "pairs.csv", PAPERS, [("A1", "X1", 1), ("A2", "X2", 0)])

    first, second = read_papers(tmp_path / "ct", table, tmp_path / "cxr")

    assert (first.volume, first.radiograph) == (tmp_path / "ct" / "A1.nii.gz", tmp_path / "cxr" / "X1.png")
    assert (second.volume, second.radiograph) == (tmp_path / "ct" / "A2", tmp_path / "cxr" / "X2.dcm")
    assert (first.label, second.label, first.split) == (1, 0, None)


@pytest.mark.parametrize("value", ["2", "yes", "", "-1", "0.5", "nan"])
def test_a_label_that_is_not_0_or_1_is_refused_by_row(value: str, tmp_path: Path) -> None:
    table = write_rows(tmp_path / "pairs.csv", PAPERS, [("A1", "X1", 1), ("A2", "X2", value)])

    with pytest.raises(InputError, match=rf"Expected 0 or 1 in column PE, got '{value}' in pairs.csv, row 3"):
        read_papers(tmp_path, table, check_files=False)


def test_a_missing_radiograph_and_two_files_of_one_name_are_refused_by_row(tmp_path: Path) -> None:
    touch(tmp_path / "A1.nii.gz")
    table = write_rows(tmp_path / "pairs.csv", PAPERS, [("A1", "X1", 1)])
    with pytest.raises(InputError, match=r"X1, got no such file or folder \(pairs.csv, row 2\)"):
        read_papers(tmp_path, table)
    touch(tmp_path / "X1.png")
    touch(tmp_path / "X1.jpg")
    with pytest.raises(InputError, match=r"one file for X1 \(pairs.csv, row 2\), got X1.png, X1.jpg"):
        read_papers(tmp_path, table)


# --- your own


def test_a_folder_of_volumes_needs_no_table(tmp_path: Path) -> None:
    touch(tmp_path / "b.nii.gz")
    touch(tmp_path / "a" / "1.dcm")
    touch(tmp_path / "notes.txt")
    touch(tmp_path / ".hidden.nii")

    studies = read_folder(tmp_path)

    assert [(s.id, s.patient, s.volume) for s in studies] == [
        ("a", "a", tmp_path / "a"),
        ("b", "b", tmp_path / "b.nii.gz"),
    ]


def test_a_folder_with_a_table_knows_patients_labels_and_splits(tmp_path: Path) -> None:
    touch(tmp_path / "one.nii.gz")
    touch(tmp_path / "radiographs" / "one.png")
    rows = [("one", "one.png", "p1", "1", "train"), ("", "two", "p2", "", "test")]
    table = write_rows(tmp_path / "t.csv", ("volume", "radiograph", "patient", "label", "split"), rows)

    first, second = read_folder(tmp_path, table, tmp_path / "radiographs", check_files=False)

    assert (first.id, first.patient, first.label, first.split) == ("one", "p1", 1, "train")
    assert (first.volume, first.radiograph) == (tmp_path / "one.nii.gz", tmp_path / "radiographs" / "one.png")
    assert (second.id, second.patient, second.label, second.split) == ("two", "p2", None, "test")
    assert second.volume is None


def test_an_empty_folder_a_missing_one_and_a_table_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one study"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="Expected a folder of volumes"):
        read_folder(tmp_path / "missing")
    table = write_rows(tmp_path / "t.csv", ("file", "label"), [("a", 1)])
    with pytest.raises(InputError, match=r"column volume or radiograph in t.csv, row 1, got file, label"):
        read_folder(tmp_path, table)
    write_rows(table, ("volume", "id"), [("a", "same"), ("b", "same")])
    with pytest.raises(InputError, match=r"each study once, got same in t.csv, row 2 and t.csv, row 3"):
        read_folder(tmp_path, table, check_files=False)


# --- tables


@pytest.mark.parametrize(
    "read",
    [
        lambda root, table: read_rspect(root, table),
        lambda root, table: read_lidc(root, table),
        lambda root, table: read_inspect(root, table),
        lambda root, table: read_ct_rate(root, table),
        lambda root, table: read_papers(root, table),
    ],
    ids=["rspect", "lidc", "inspect", "ct-rate", "papers"],
)
def test_wrong_columns_are_named(read: Callable[[Path, Path], list], tmp_path: Path) -> None:
    table = write_rows(tmp_path / "wrong.csv", ("pe", "file"), [(1, "a")])

    with pytest.raises(InputError, match=r"in wrong.csv, row 1, got pe, file; missing: "):
        read(tmp_path, table)


def test_rows_are_counted_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffa,b\r\n\r\n"two\nlines",1\r\n x , 2 \r\n'.encode())

    rows = read_table(path, ("a", "b"))

    assert [(row.number, row.cells["a"]) for row in rows] == [(3, "two\nlines"), (4, "x")]
    assert rows[1].where == "t.csv, row 4"


def test_a_row_of_another_length_an_empty_table_and_a_repeated_column_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(InputError, match=r"2 cells, got 3 in t.csv, row 3"):
        read_table(path)
    path.write_text("a,b\n")
    with pytest.raises(InputError, match=r"rows below the column names, got none in t.csv"):
        read_table(path)
    path.write_text("a,a\n1,2\n")
    with pytest.raises(InputError, match=r"once each in t.csv, row 1, got a, a"):
        read_table(path)
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "missing.csv")


# --- any of them


def test_a_source_is_read_with_the_settings_that_its_data_set_knows(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii")
    touch(tmp_path / "b.nii")

    assert len(read_studies(StudySource(root=str(tmp_path)))) == 2
    assert [s.id for s in read_studies(StudySource(root=str(tmp_path), studies=1))] == ["a"]
    with pytest.raises(ConfigError, match=r"dataset: .*'folder', 'rspect', 'lidc'"):
        from_mapping(StudySource, {"dataset": "mimic"})
    with pytest.raises(ConfigError, match="rspect needs table"):
        read_studies(StudySource(dataset="rspect", root=str(tmp_path)))
    with pytest.raises(ConfigError, match="may have table, radiographs; got metadata"):
        read_studies(StudySource(root=str(tmp_path), metadata="m.csv"))


def test_studies_of_a_data_set_without_splits_get_fixed_ones_by_patient(tmp_path: Path) -> None:
    rows = [("patient", "study", "volume")]
    rows += [
        (f"p{number // 2}", f"s{number}", touch(tmp_path / f"s{number}.nii.gz").name) for number in range(400)
    ]
    write_rows(tmp_path / "studies.csv", rows[0], rows[1:])
    assert {study.split for study in read_studies(StudySource(root=str(tmp_path)))} == {None}
    drawn = read_studies(StudySource(root=str(tmp_path), drawn_splits=True))
    split = {study.patient: study.split for study in drawn}
    assert all(study.split == split[study.patient] for study in drawn)
    count = [sum(one == name for one in split.values()) for name in ("train", "valid", "test")]
    assert count == pytest.approx([140, 20, 40], abs=15)
    fewer = read_studies(StudySource(root=str(tmp_path), drawn_splits=True, studies=200))
    moved = [study for study in fewer if study.split != split[study.patient]]
    assert len({study.patient for study in moved}) <= 2, "whoever else is there"


def test_of_two_patients_one_tests_and_a_split_that_is_named_stays(tmp_path: Path) -> None:
    for number in range(2):
        touch(tmp_path / f"{number}.nii.gz")
    both = read_studies(StudySource(root=str(tmp_path), drawn_splits=True))
    assert sorted(str(study.split) for study in both) == ["test", "train"]
    rows = [("0.nii.gz", "valid"), ("1.nii.gz", "")]
    write_rows(tmp_path / "studies.csv", ("volume", "split"), rows)
    named = read_studies(StudySource(root=str(tmp_path), drawn_splits=True))
    assert [study.split for study in named] == ["valid", None]
    assert read_studies(StudySource(root=str(tmp_path), drawn_splits=True, studies=1))[0].split == "valid"
