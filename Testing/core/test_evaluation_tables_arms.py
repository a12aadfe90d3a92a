import json

import pytest
from table_arms import write_arm, write_generator, write_table

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.tables.arms import find_arms, read_arm, read_pairs, read_predictions
from xray2ctpa_core.training import arms

COLUMNS = ("patient", "fold", "split", "label", "score")


def test_arms_are_found_below_a_folder_and_named_by_their_description(tmp_path):
    write_arm(tmp_path / "deep" / "one", "latent", patients=4)
    write_arm(tmp_path / "two", "radiograph", dataset="lidc", patients=4)
    assert [arm.name for arm in find_arms([tmp_path])] == ["latent", "radiograph"]
    assert [arm.name for arm in find_arms([tmp_path], "lidc")] == ["radiograph"]
    assert find_arms([tmp_path / "two"])[0].predictions[0].split == "validation"


def test_one_name_twice_is_refused(tmp_path):
    write_arm(tmp_path / "one", "latent", patients=4)
    write_arm(tmp_path / "two", "latent", patients=4)
    with pytest.raises(InputError, match="each arm once, got latent"):
        find_arms([tmp_path])
    assert len(find_arms([tmp_path / "one", tmp_path / "one"])) == 1


def test_a_stage_that_was_told_no_data_set_writes_an_arm_that_can_be_read(tmp_path):
    arms.write_predictions(tmp_path, [("p", 0, "test", 1, 0.5)])
    arms.write_arm(tmp_path, "latent", "classifier", "")
    assert [arm.name for arm in find_arms([tmp_path])] == ["latent"]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "a", "kind": "reader", "dataset": "d"}, "classifier or generator"),
        ({"name": "a", "kind": "classifier"}, "name, dataset and kind"),
        ({"name": "a", "kind": "classifier", "dataset": "d", "colour": 1}, "colour"),
        ({"name": "a", "kind": "generator", "dataset": "d"}, r"Expected pairs\.csv"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, description, message):
    (tmp_path / "arm.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_arm(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 0, "test", 2, 0.1)], r"0 or 1 in column label, got '2' in predictions\.csv, row 2"),
        ([("a", 0, "test", 1, "nan")], r"number in column score, got 'nan' in predictions\.csv, row 2"),
        ([("a", 0, "train", 1, 0.1)], r"column split, got 'train' in predictions\.csv, row 2"),
        ([("a", 0.5, "test", 1, 0.1)], r"whole number from 0 in column fold, got '0.5' in .*row 2"),
        (
            [("a", 0, "validation", 1, 0.1), ("a", 0, "test", 1, 0.1)],
            r"a in validation \(predictions\.csv, row 2\) and in test \(predictions\.csv, row 3\)",
        ),
        (
            [("a", 0, "test", 1, 0.1), ("a", 1, "test", 1, 0.1)],
            r"tested once, got a in .*row 2 and in .*row 3",
        ),
        ([("a", 0, "test", 1, 0.1), ("a", 1, "validation", 0, 0.1)], r"one label a patient, got 1 for a"),
        ([("a", 0, "test", 1, 0.1), ("b", 2, "test", 0, 0.1)], r"none in fold 1 of predictions\.csv .*row 3"),
        (
            [("a", 0, "validation", 1, 0.1), ("b", 0, "validation", 1, 0.2), ("c", 0, "test", 0, 0.1)],
            r"both labels among the validation patients of fold 0, got 1 alone \(predictions\.csv, row 2",
        ),
        ([("a", 0, "validation", 1, 0.1), ("b", 0, "validation", 0, 0.2)], "test patients in every fold"),
    ],
)
def test_unusable_predictions_are_named_by_file_and_row(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_predictions(write_table(tmp_path / "predictions.csv", COLUMNS, rows))


def test_wrong_column_names_are_named(tmp_path):
    path = write_table(tmp_path / "predictions.csv", (*COLUMNS[:-1], "logit"), [("a", 0, "test", 1, 0.5)])
    with pytest.raises(InputError, match=r"predictions\.csv, row 1.*missing: score"):
        read_predictions(path)


def test_a_missing_volume_or_a_patient_twice_is_named_by_file_and_row(tmp_path):
    (tmp_path / "a.nii").touch()
    columns = ("patient", "real", "generated")
    path = write_table(tmp_path / "pairs.csv", columns, [("a", "a.nii", "a.nii"), ("b", "a.nii", "c.nii")])
    with pytest.raises(InputError, match=r"column generated, got c\.nii in pairs\.csv, row 3"):
        read_pairs(path)
    path = write_table(tmp_path / "pairs.csv", columns, [("a", "a.nii", "a.nii"), ("a", "a.nii", "a.nii")])
    with pytest.raises(
        InputError, match=r"each patient once, got a in pairs\.csv, row 2 and pairs\.csv, row 3"
    ):
        read_pairs(path)


def test_what_is_generated_and_how_it_is_classified_are_one_arm_of_one_name(tmp_path):
    write_generator(tmp_path / "generated", "generated", patients=1)
    write_arm(tmp_path / "on-generated", "generated", patients=8)
    (arm,) = find_arms([tmp_path])
    assert len(arm.pairs) == 1
    assert len(arm.predictions) == 16
    write_arm(tmp_path / "again", "generated", patients=8)
    with pytest.raises(InputError, match=r"each arm once, got generated in .*again and in .*generated"):
        find_arms([tmp_path])


def test_one_name_in_two_data_sets_is_refused(tmp_path):
    write_generator(tmp_path / "generated", "generated", patients=1)
    write_arm(tmp_path / "other", "generated", patients=8, dataset="another")
    with pytest.raises(InputError, match="each arm once"):
        find_arms([tmp_path])
