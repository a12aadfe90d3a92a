"""The numbers of classifiers and generators, and the tables that they fill."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from table_arms import AFFINE, GRID, chest, write_arm, write_generator, write_table

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.evaluation.columns import VOLUME_COLUMNS
from xray2ctpa_core.evaluation.instruments import Instruments
from xray2ctpa_core.evaluation.store import RowStore
from xray2ctpa_core.evaluation.tables.arms import Prediction, read_arm
from xray2ctpa_core.evaluation.tables.cells import cell_text, cell_values
from xray2ctpa_core.evaluation.tables.classifier import (
    classifier_numbers,
    compare_accuracies,
    compare_aurocs,
    decide,
)
from xray2ctpa_core.evaluation.tables.definition import COLUMNS, read_definitions
from xray2ctpa_core.evaluation.tables.fill import fill_table, measure_arm
from xray2ctpa_core.evaluation.tables.generator import (
    VolumeBench,
    compare_pairs,
    generator_numbers,
    measure_pair,
)
from xray2ctpa_core.evaluation.tables.run import measure_arms
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.metrics.classification import auroc, youden_threshold
from xray2ctpa_core.metrics.features import clip_network, slice_network
from xray2ctpa_core.metrics.image import psnr
from xray2ctpa_core.metrics.perceptual import PerceptualDistance
from xray2ctpa_core.volume import Volume, axial_affine

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")
WINDOW = (-1000.0, 900.0)


def prediction(patient: str, fold: int, split: str, label: int, score: float) -> Prediction:
    return Prediction(patient, fold, split, label, score, "here")


def of_scores(validation, test, fold=0):
    """Predictions of one fold from [(label, score), ...]."""
    sets = (("validation", validation), ("test", test))
    return [
        prediction(f"{split[0]}{fold}{n}", fold, split, label, score)
        for split, rows in sets
        for n, (label, score) in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def perceptual() -> PerceptualDistance:
    return PerceptualDistance()


@pytest.fixture
def bench(perceptual, tmp_path) -> VolumeBench:
    networks = {"fvd": clip_network(None, perceptual), "fid": slice_network(None, perceptual)}
    return VolumeBench(WINDOW, Instruments(perceptual, None, networks), RowStore(tmp_path / "rows.jsonl"))


def test_the_threshold_is_that_of_the_folds_own_validation_patients():
    # Validation puts the cut at 0.6 in fold 0 and at 5 in fold 1; on the test patients of fold 0 alone 0.3
    # would have been best.
    rows = of_scores([(0, 0.5), (1, 0.6)], [(0, 0.2), (1, 0.3), (1, 0.7), (0, 0.1)])
    rows += of_scores([(0, 4.0), (1, 5.0)], [(0, 4.9), (1, 6.0)], fold=1)
    tested = decide(rows)
    assert tested.calls is not None
    assert tested.calls.tolist() == [False, False, True, False, False, True]
    assert youden_threshold(np.array([0, 1, 1, 0]), np.array([0.2, 0.3, 0.7, 0.1])) == 0.3
    numbers = classifier_numbers(tested)
    assert numbers["sensitivity"].estimate == pytest.approx(2 / 3)
    assert numbers["specificity"].estimate == 1
    assert numbers["accuracy"].estimate == pytest.approx(5 / 6)


def test_test_patients_do_not_move_the_threshold_or_the_calibration():
    validation = [(0, -1.0), (0, 0.5), (1, 0.2), (1, 2.0)]
    test = [(0, -0.5), (1, 1.0), (0, 0.1), (1, 0.3)]
    one = decide(of_scores(validation, test))
    turned = decide(of_scores(validation, [(1 - label, score) for label, score in test]))
    np.testing.assert_array_equal(one.calls, turned.calls)
    np.testing.assert_array_equal(one.probabilities, turned.probabilities)


def test_calibration_learns_from_validation_that_scores_are_too_sure(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    scores = 1 / (1 + np.exp(-8 * (labels - 0.5) - rng.normal(0, 8, 400)))
    pairs = list(zip(labels.tolist(), scores.tolist(), strict=True))
    numbers = classifier_numbers(decide(of_scores(pairs[:200], pairs[200:])))
    assert numbers["ece"] < 0.1 < numbers["ece_raw"]
    assert numbers["brier"].estimate < numbers["brier_raw"].estimate
    assert numbers["brier"].lower < numbers["brier"].estimate < numbers["brier"].upper


def test_without_validation_patients_no_rate_is_invented():
    numbers = classifier_numbers(decide(of_scores([], [(0, -1.0), (1, 2.0), (0, 0.0), (1, 1.0)])))
    assert sorted(numbers) == ["auroc", "auroc_folds"]


def test_six_models_of_other_scales_are_not_ranked_against_each_other():
    """Each fold is in perfect order; fold 1's scores are lower by 10, so raw scores pooled are not."""
    rows = of_scores([], [(0, 1.0), (0, 2.0), (1, 3.0), (1, 4.0)])
    rows += of_scores([], [(0, -9.0), (0, -8.0), (1, -7.0), (1, -6.0)], fold=1)
    tested = decide(rows)
    assert auroc(tested.labels, tested.scores) == 0.75
    numbers = classifier_numbers(tested)
    assert numbers["auroc"].estimate == numbers["auroc_folds"].estimate == 1
    assert numbers["auroc"].lower < 0.9
    turned = decide([dataclasses.replace(row, score=-row.score) for row in rows])
    assert compare_aurocs(tested, turned).difference.estimate == 1


def test_a_number_of_fewer_patients_than_the_row_says_so(tmp_path, bench):
    pairs = [measure_pair(p, bench) for p in read_arm(write_generator(tmp_path / "g", "g", patients=3)).pairs]
    pairs[0].row["heart_dice_3d"] = float("nan")
    equal = dataclasses.replace(pairs[1], row=pairs[1].row | {"psnr": float("inf")})
    numbers = generator_numbers([pairs[0], equal, pairs[2]])
    assert cell_text(numbers["heart_dice_3d"], 2).endswith("], n = 2")
    assert cell_values(numbers["heart_dice_3d"])["n"] == "2"
    assert cell_text(numbers["psnr"], 2) == "inf [-]"
    assert cell_values(numbers["psnr"]) == {"": "inf", "lower": "", "upper": ""}


def test_a_readers_calls_are_decisions_already():
    rows = [prediction(f"p{n}", 0, "test", label, float(call)) for n, (label, call) in enumerate(
        [(1, 1), (1, 1), (1, 0), (0, 0), (0, 1)]
    )]  # fmt: skip
    numbers = classifier_numbers(decide(rows))
    assert numbers["sensitivity"].estimate == pytest.approx(2 / 3)
    assert numbers["specificity"].estimate == 0.5


def test_two_classifiers_are_compared_on_the_patients_that_both_have(tmp_path):
    first = decide(read_arm(write_arm(tmp_path / "a", "a", strength=2)).predictions)
    second = decide(read_arm(write_arm(tmp_path / "b", "b", patients=80, strength=0, seed=1)).predictions)
    areas = compare_aurocs(first, second)
    assert areas.n == 80
    kept = np.isin(first.patients, second.patients)
    order = np.argsort(first.patients)
    expected = auroc(first.labels[kept], first.scores[kept], first.folds[kept])
    expected -= auroc(second.labels, second.scores, second.folds)
    assert areas.difference.estimate == pytest.approx(expected)
    assert areas.p < 0.001
    assert compare_accuracies(first, second).n == 80
    assert first.labels[order].tolist() == [n % 4 // 2 for n in range(120)]


def test_arms_with_other_labels_for_a_patient_are_not_compared():
    first = decide([prediction("a", 0, "test", 0, 0.1), prediction("b", 0, "test", 1, 0.2)])
    second = decide([prediction("a", 0, "test", 1, 0.1), prediction("b", 0, "test", 0, 0.2)])
    with pytest.raises(InputError, match="two for a"):
        compare_aurocs(first, second)


def test_the_networks_read_a_real_volume_once_for_all_arms(tmp_path, bench):
    one = read_arm(write_generator(tmp_path / "one", "one", patients=1)).pairs[0]
    other = dataclasses.replace(
        read_arm(write_generator(tmp_path / "other", "other", patients=1, error=90.0)).pairs[0], real=one.real
    )
    first, second = measure_pair(one, bench), measure_pair(other, bench)
    rows = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["key"].endswith("/real") for row in rows] == [False, True, False]
    assert first.truth == second.truth
    for metric in ("features_fvd", "features_fid"):
        assert first.row[metric] != second.row[metric]


def test_the_first_volumes_of_every_arm_are_measured_where_a_number_is_given(tmp_path, bench):
    arms = [read_arm(write_generator(tmp_path / name, name, patients=3)) for name in ("a", "b")]
    measured = measure_arms(arms, bench, volumes=2)
    assert {name: [pair.patient for pair in arm.pairs] for name, arm in measured.items()} == {
        "a": ["p000", "p001"],
        "b": ["p000", "p001"],
    }


def test_a_generators_means_are_those_of_its_pairs(tmp_path, bench):
    arm = read_arm(write_generator(tmp_path / "g", "g", patients=4))
    measured = [measure_pair(pair, bench) for pair in arm.pairs]
    values = []
    for number in range(4):
        real = np.rint(chest(number))
        noise = np.random.default_rng(1000 + number).normal(0, 50, GRID)
        values.append(psnr(np.rint(chest(number) + noise), real, WINDOW))
    numbers = generator_numbers(measured)
    assert numbers["psnr"].estimate == pytest.approx(np.mean(values), abs=1e-4)
    assert {"ssim", "slice_ssim", "mae", "perceptual", "projection", "fvd", "fid"} <= set(numbers)
    assert "lpips" not in numbers
    assert numbers["fvd"].estimate > 0
    assert np.shape(measured[0].row["features_fid"]) == (3, 112)


def test_of_volumes_of_few_slices_all_is_measured_but_the_3d_ssim(tmp_path, bench):
    real, made = (tmp_path / f"{name}.nii.gz" for name in ("real", "made"))
    thin = chest(0)[:8]
    write_volume(Volume(thin, AFFINE), real, np.int16)
    write_volume(Volume(thin + 40.0, AFFINE), made, np.int16)
    pair = read_arm(write_generator(tmp_path / "g", "g", patients=1)).pairs[0]
    row = measure_pair(dataclasses.replace(pair, real=real, generated=made), bench).row
    assert set(VOLUME_COLUMNS) & {"psnr", "slice_ssim", "mae", "perceptual", "projection"} <= set(row)
    assert "ssim" not in row
    assert 0 < row["slice_ssim"] < 1


def test_measured_pairs_are_not_measured_again_and_are_the_same(tmp_path, bench, monkeypatch):
    pair = read_arm(write_generator(tmp_path / "g", "g", patients=1)).pairs[0]
    first = measure_pair(pair, bench)
    monkeypatch.setattr(bench.instruments.perceptual, "forward", None)
    again = VolumeBench(**vars(bench) | {"store": RowStore(tmp_path / "rows.jsonl")})
    second = measure_pair(pair, again)
    assert second == first


def test_more_noise_is_worse_in_every_number_and_pairs_say_so(tmp_path, bench):
    arms = [
        [
            measure_pair(pair, bench)
            for pair in read_arm(write_generator(tmp_path / str(error), "g", patients=3, error=error)).pairs
        ]
        for error in (20.0, 150.0)
    ]
    near, far = (generator_numbers(arm) for arm in arms)
    for name in ("mae", "perceptual", "fvd", "fid"):
        assert near[name].estimate < far[name].estimate, name
    for name in ("psnr", "ssim", "slice_ssim", "projection"):
        assert near[name].estimate > far[name].estimate, name
    difference = compare_pairs(arms[0], arms[1], "psnr")
    assert difference.n == 3
    assert difference.difference.estimate == pytest.approx(near["psnr"].estimate - far["psnr"].estimate)
    assert compare_pairs(arms[0], [], "psnr") is None


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (np.zeros((12, 32, 16)), axial_affine((12, 32, 16), (120.0, 240.0, 300.0)), "one grid"),
        (np.zeros(GRID), AFFINE @ np.diag([1, 1, 2, 1]), "one grid"),
        (np.zeros(GRID), AFFINE @ np.diag([-1, 1, 1, 1]), "axial slices"),
        (None, AFFINE, "NaN"),
    ],
)
def test_pairs_that_do_not_fit_are_named_by_file_and_row(tmp_path, bench, array, affine, message):
    folder = write_generator(tmp_path / "g", "g", patients=2)
    path = folder / "generated-1.nii.gz"
    if array is None:
        import nibabel as nib

        image = nib.load(path)
        voxels = image.get_fdata().astype(np.float32)
        voxels[3, 3, 3] = np.nan
        path.unlink()
        nib.save(nib.Nifti1Image(voxels, image.affine), path)
    else:
        write_volume(Volume(array, affine), path, np.int16)
    with pytest.raises(InputError, match=rf"^pairs\.csv, row 3: .*{message}"):
        [measure_pair(pair, bench) for pair in read_arm(folder).pairs]


def definition(path, **changes):
    table = {
        "number": 1,
        "title": "Arms",
        "metrics": ["auroc", "ece", "psnr"],
        "reference": "weak",
        "compare": ["auroc", "accuracy"],
        "rows": [
            {"label": "strong", "arm": "strong", "reported": {"auroc": "0.90"}, "source": "a paper"},
            {"label": "weak", "arm": "weak"},
            {"label": "absent", "arm": "absent", "reported": {"auroc": "0.80"}, "source": "a paper"},
        ],
    }
    path.write_text(json.dumps({"tables": [table | changes]}), encoding="utf-8")
    return path


@pytest.fixture
def filled(tmp_path):
    arms = {
        name: measure_arm(read_arm(write_arm(tmp_path / name, name, strength=strength, seed=seed)), [])
        for seed, (name, strength) in enumerate({"strong": 1.5, "weak": 0.3}.items())
    }
    return fill_table(read_definitions(definition(tmp_path / "tables.json"))[0], arms, {"fvd": "other"})


def test_an_absent_arm_is_not_measured_and_what_is_reported_stays_apart(filled):
    line = dict(zip(filled.headings, filled.texts()[2], strict=True))
    assert line.pop("arm") == "absent"
    assert (line.pop("reported"), line.pop("source of reported")) == ("AUC 0.80", "a paper")
    assert set(line.values()) == {"not measured"}


def test_no_cell_of_a_measured_row_is_blank(filled):
    texts = filled.texts()
    for line in texts[:2]:
        assert all(line[: filled.headings.index("reported")])
    assert texts[0][filled.headings.index("PSNR dB")] == "not measured"
    assert texts[1][filled.headings.index("accuracy, McNemar against: weak")] == "reference"
    assert "p < 0.001" in texts[0][5]


def test_arms_of_two_data_sets_are_not_compared_even_where_patients_names_agree(tmp_path):
    sets = {"strong": "one", "weak": "other"}
    arms = {n: measure_arm(read_arm(write_arm(tmp_path / n, n, dataset=s)), []) for n, s in sets.items()}
    table = fill_table(read_definitions(definition(tmp_path / "tables.json"))[0], arms, {})
    assert table.texts()[0][5:7] == ["not measured", "not measured"]


def test_the_csv_has_each_number_of_the_markdown_in_a_column_of_its_own(filled):
    rows = list(csv.DictReader(filled.csv().splitlines()))
    name = "AUROC, all test patients, ranked within folds (DeLong)"
    ends = [float(rows[0][f"{name}{suffix}"]) for suffix in ("", " lower", " upper")]
    assert f"{ends[0]:.3f} [{ends[1]:.3f}, {ends[2]:.3f}]" in filled.markdown()
    assert float(rows[0][f"{name}, minus: weak p"]) < 0.001
    assert rows[0][f"{name}, minus: weak n"] == "120"
    assert rows[2][name] == "not measured"


def test_tables_read_as_markdown(filled):
    lines = filled.markdown().splitlines()
    assert lines[0] == "## Table 1: Arms"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 5
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["auroc", "colour"]}, r"tables\.json, table 1: metrics"),
        ({"metrics": ["auroc", "auroc"]}, "at most once"),
        ({"compare": ["fvd"]}, "compare"),
        ({"reference": "nobody"}, "reference nobody to be the arm of a row"),
        ({"reference": ""}, "reference and compare together"),
        ({"title": ""}, "a title"),
        ({"colour": 1}, "colour"),
        ({"rows": [{"label": "a", "arm": "weak", "reported": {"auroc": "1"}}]}, "row 1: .* source"),
        ({"rows": [{"label": "a", "arm": "weak", "reported": {"auroc": 1}, "source": "x"}]}, "as text"),
        ({"rows": [{"label": "a", "colour": "weak"}]}, "row 1: .*colour"),
        ({"number": 0}, "number from 1"),
    ],
)
def test_a_wrong_definition_is_refused_by_its_place(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        read_definitions(definition(tmp_path / "tables.json", **changes))


def test_the_papers_seven_tables_are_defined(repository):
    tables = read_definitions(repository / "Training" / "configs" / "paper-tables.json")
    assert [table.number for table in tables] == [1, 2, 3, 4, 5, 6, 7]
    assert {column for table in tables for column in table.metrics} <= set(COLUMNS)
    reported = {row.arm: row.reported for row in tables[1].rows if row.reported}
    assert reported["generated"] == {"fvd": "0.29e3", "psnr": "19.41", "slice_ssim": "0.58", "lpips": "0.14"}


def test_predictions_of_one_class_name_their_file(tmp_path):
    columns = ("patient", "fold", "split", "label", "score")
    folder = write_arm(tmp_path / "a", "a", patients=4)
    write_table(folder / "predictions.csv", columns, [("a", 0, "test", 1, 0.1), ("b", 0, "test", 1, 0.2)])
    with pytest.raises(InputError, match=r"predictions\.csv: .*both present"):
        measure_arm(read_arm(folder), [])


def test_volumes_are_clipped_to_the_window_before_any_network_sees_them(tmp_path, perceptual, bench):
    seen = []

    class Watching:
        title, window = "watched", None

        def __call__(self, volume: torch.Tensor) -> torch.Tensor:
            seen.append((float(volume.min()), float(volume.max())))
            return torch.zeros(1, 2)

    pair = read_arm(write_generator(tmp_path / "g", "g", patients=1)).pairs[0]
    instruments = Instruments(perceptual, None, {"fvd": Watching(), "fid": Watching()})
    measure_pair(pair, VolumeBench((0.0, 100.0), instruments, bench.store))
    assert seen == [(-1.0, 1.0)] * 4
