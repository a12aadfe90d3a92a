import pytest

from xray2ctpa_core.datasets.folds import assign_folds, read_folds, role_in, write_folds
from xray2ctpa_core.errors import InputError


def table(path, rows, columns=("patient", "label")):
    path.write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path):
    """120 patients, a quarter with PE, every tenth with a second study."""
    rows = [(f"p{n}", int(n % 4 == 0)) for n in range(120)]
    return table(tmp_path / "labels.csv", rows + rows[::10])


def test_each_of_six_folds_has_a_sixth_of_both_classes(labels):
    rows = assign_folds(labels)
    for fold in range(6):
        members = {row.patient: row.label for row in rows if row.fold == fold}
        assert 18 <= len(members) <= 22
        assert 4 <= sum(members.values()) <= 6


def test_no_patient_is_in_two_folds(labels):
    folds_of: dict[str, set[int]] = {}
    for row in assign_folds(labels):
        folds_of.setdefault(row.patient, set()).add(row.fold)
    assert {len(folds) for folds in folds_of.values()} == {1}


def test_the_same_seed_gives_the_same_folds_and_another_one_others(labels):
    assert assign_folds(labels, seed=1) == assign_folds(labels, seed=1)
    assert assign_folds(labels, seed=1) != assign_folds(labels, seed=2)


def test_folds_are_read_as_they_were_written(labels, tmp_path):
    rows = assign_folds(labels)
    write_folds(rows, tmp_path / "folds.csv")
    again = read_folds(tmp_path / "folds.csv")
    assert [(r.patient, r.label, r.fold) for r in again] == [(r.patient, r.label, r.fold) for r in rows]


def test_every_fold_is_tested_once_and_validates_once():
    roles = [[role_in(fold, test, 6) for fold in range(6)] for test in range(6)]
    assert roles[0] == ["test", "validation", "train", "train", "train", "train"]
    assert roles[5] == ["validation", "train", "train", "train", "train", "test"]
    assert all(column.count("test") == column.count("validation") == 1 for column in zip(*roles, strict=True))


def test_a_label_that_is_not_0_or_1_is_named_by_file_and_row(tmp_path):
    with pytest.raises(InputError, match=r"Expected 0 or 1 .* got '2' in labels\.csv, row 3"):
        assign_folds(table(tmp_path / "labels.csv", [("a", 0), ("b", 2)]))


def test_too_few_patients_of_a_class_are_named_by_row(tmp_path):
    rows = [(f"p{n}", int(n in (3, 5))) for n in range(20)]
    with pytest.raises(
        InputError, match=r"at least 6 patients with label 1 .* got 2 in labels\.csv, row\(s\) 5, 7"
    ):
        assign_folds(table(tmp_path / "labels.csv", rows))


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(InputError, match=r"labels\.csv, row 1.*missing: label"):
        assign_folds(table(tmp_path / "labels.csv", [("a", 0)], columns=("patient", "Label")))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 0, 0), ("b", 1, 0), ("c", 0, 2), ("d", 1, 2)], r"none in fold 1 of folds\.csv"),
        (
            [("a", 0, 0), ("b", 1, 0), ("c", 0, 1), ("d", 0, 1)],
            r"label 0 alone in fold 1 \(folds\.csv, row 4",
        ),
        (
            [("a", 0, 0), ("b", 1, 0), ("a", 0, 1), ("d", 1, 1)],
            r"a in fold 0 \(folds\.csv, row 2\) and in fold 1",
        ),
        ([("a", 0, 0), ("b", 1, "x")], r"whole number from 0 in column fold, got 'x' in folds\.csv, row 3"),
        ([("a", 0, 0), ("", 1, 0)], r"value in column patient, got none in folds\.csv, row 3"),
    ],
)
def test_unusable_folds_are_named_by_file_and_row(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_folds(table(tmp_path / "folds.csv", rows, ("patient", "label", "fold")))


def test_two_folds_leave_none_for_validation(labels):
    with pytest.raises(InputError, match="at least 3 folds"):
        assign_folds(labels, folds=2)
