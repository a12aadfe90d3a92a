"""One meter for every volume, and one place that sums up what it measured."""

import numpy as np
import pytest
import torch
from table_arms import AFFINE, GRID, chest

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")

from xray2ctpa_core.evaluation.columns import PATIENT_COLUMNS, PEOPLE_COLUMNS, SET_FEATURES, VOLUME_COLUMNS
from xray2ctpa_core.evaluation.instruments import make_instruments
from xray2ctpa_core.evaluation.numbers import entry, mean_of, paired_difference_of, set_distance
from xray2ctpa_core.evaluation.volumes import VolumeMeter
from xray2ctpa_core.metrics.features import PlaneSlices
from xray2ctpa_core.metrics.perceptual import PerceptualDistance
from xray2ctpa_core.volume import Volume

WINDOW = (-1000.0, 900.0)


@pytest.fixture(scope="module")
def instruments():
    return make_instruments(("planes",))


def test_every_reported_column_is_measured_by_the_one_meter(instruments):
    image = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    meter = VolumeMeter(Volume(chest(0), AFFINE), WINDOW, instruments, lambda _: image)
    samples = np.stack([chest(0) + 50, chest(0) - 30])
    measured = set(meter.several(samples))
    assert set(VOLUME_COLUMNS) - measured <= {"lpips"}
    assert {f"features_{plane}" for plane in ("axial", "coronal", "sagittal")} <= measured
    assert set(PATIENT_COLUMNS) | set(PEOPLE_COLUMNS) <= set(VOLUME_COLUMNS)


def test_hu_of_the_chambers_are_read_where_the_patients_own_are(instruments):
    truth = chest(1)
    meter = VolumeMeter(Volume(truth, AFFINE), WINDOW, instruments)
    darker = np.where(truth > 150, truth - 120, truth)
    row = meter.measure(darker)
    assert row["chamber_hu"] == pytest.approx(180, abs=10)
    assert row["chamber_error"] == pytest.approx(120, abs=1)
    plain = VolumeMeter(Volume(truth, AFFINE), WINDOW, instruments, enhanced=False).measure(darker)
    assert np.isnan([plain["chamber_hu"], plain["chamber_error"], plain["heart_dice_3d"]]).all()
    assert plain["lung_dice_3d"] > 0.9


def test_samples_drawn_like_the_truth_have_a_spread_that_is_their_error(instruments):
    rng = np.random.default_rng(0)
    draw = lambda deviation: rng.normal(0, deviation, GRID)  # noqa: E731 - one draw a call
    meter = VolumeMeter(Volume(draw(100.0), AFFINE), WINDOW, instruments)
    fair = meter.several(np.stack([draw(100.0) for _ in range(4)]))
    assert fair["spread"] == pytest.approx(100, rel=0.02)
    assert fair["spread_over_error"] == pytest.approx(1, abs=0.03)
    sure = meter.several(np.stack([draw(10.0) for _ in range(4)]))
    assert sure["spread_over_error"] == pytest.approx(0.11, abs=0.01)  # sqrt(1.25) * 10 / 100


def test_spread_that_lies_where_the_error_is_tracks_it(instruments):
    rng = np.random.default_rng(1)
    deviation = np.where(np.arange(GRID[2]) < 16, 200.0, 10.0)
    draw = lambda: deviation * rng.normal(size=GRID)  # noqa: E731 - one draw a call
    meter = VolumeMeter(Volume(draw(), AFFINE), WINDOW, instruments)
    assert meter.several(np.stack([draw() for _ in range(6)]))["spread_tracks_error"] > 0.4
    even = np.stack([200.0 * rng.normal(size=GRID) for _ in range(6)])
    assert abs(meter.several(even)["spread_tracks_error"]) < 0.1


def test_an_infinite_psnr_counts_and_what_could_not_be_measured_does_not():
    rows = [
        {"psnr": 20.0, "dice": 0.8},
        {"psnr": float("inf"), "dice": float("nan")},
        {"psnr": 30.0, "dice": None},
    ]
    interval, count = mean_of(rows, "psnr")
    assert (interval.estimate, count) == (float("inf"), 3)
    assert interval.text(2) == "inf [-]"
    dice, measured = mean_of(rows, "dice")
    assert (dice.estimate, measured) == (0.8, 1)
    assert mean_of(rows, "ssim") is None
    assert entry((dice, measured)) == {"estimate": 0.8, "lower": None, "upper": None, "n": 1}


def test_an_interval_ends_where_the_quantity_does():
    rows = [{"ssim": v, "lung_dice_3d": v, "psnr": 100 * v} for v in (0.7, 0.99, 0.98)]
    dice, _ = mean_of(rows, "lung_dice_3d")
    assert dice.upper == 1
    assert 0 < dice.lower < dice.estimate
    assert mean_of(rows, "psnr")[0].upper > 100
    assert mean_of([{"lung_dice_3d": 0.0}, {"lung_dice_3d": 0.1}], "lung_dice_3d")[0].lower == 0


def test_differences_are_of_the_patients_that_both_have():
    first = {"a": {"psnr": 20.0}, "b": {"psnr": float("inf")}, "c": {"psnr": 22.0}, "d": {"psnr": 9.0}}
    second = {
        "a": {"psnr": 18.0},
        "b": {"psnr": float("inf")},
        "c": {"psnr": float("nan")},
        "e": {"psnr": 1.0},
    }
    interval, count = paired_difference_of(first, second, "psnr")
    assert (interval.estimate, count) == (1.0, 2)  # 2 and, of two infinite ones, 0
    assert paired_difference_of(first, {}, "psnr") is None


def test_planes_are_compared_together_and_one_by_one():
    rng = np.random.default_rng(0)

    def rows(shift: float) -> dict:
        return {
            name: {f"features_{p}": (rng.normal(size=(4, 3)) + shift).tolist() for p in ("axial", "coronal")}
            for name in "abcd"
        }

    near, far, real = rows(0.0), rows(3.0), rows(0.0)
    assert set_distance("axial", far, real)[0].estimate > set_distance("axial", near, real)[0].estimate
    assert set_distance("planes", near, real) is None  # no sagittal features
    assert set_distance("axial", dict(list(near.items())[:2]), real) is None
    assert SET_FEATURES["planes"] == ("features_axial", "features_coronal", "features_sagittal")


def test_a_volume_smeared_along_the_rays_shows_in_sagittal_slices():
    network = PerceptualDistance()
    volume = torch.from_numpy(np.clip(chest(0) / 1000, -1, 1)).float()
    smeared = volume.mean(dim=1, keepdim=True).expand_as(volume)
    features = {plane: PlaneSlices(network, plane) for plane in ("axial", "coronal", "sagittal")}
    assert features["axial"](volume).shape == (12, 112)
    assert features["sagittal"].window == (-1000.0, 400.0)
    for plane in ("axial", "sagittal"):
        assert (features[plane](volume).mean(0) - features[plane](smeared).mean(0)).norm() > 0.5
    constant = features["coronal"](smeared)
    assert torch.allclose(constant, constant[:1].expand_as(constant), atol=1e-4)
