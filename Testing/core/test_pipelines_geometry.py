"""The volume's size and place in the radiograph."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_bundle import tiny_info

from xray2ctpa_core.pipelines.geometry import (
    before_volume,
    frame_side_mm,
    on_frame,
    size_doubts,
    size_sentence,
    volume_affine,
)
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume, axial_affine

RULE = tiny_info().geometry
FRAME = FrontalFrame(top=10.0, left=20.0, side=100.0)


def radiograph(spacing: tuple[float, float] | None) -> Radiograph:
    return Radiograph(np.zeros((128, 128), np.float32), spacing, "PixelSpacing" if spacing else "unknown")


def test_spacing_at_the_detector_is_brought_to_the_middle_of_the_thorax() -> None:
    side, source = frame_side_mm(radiograph((3.3, 3.3)), FRAME, RULE)
    assert side == pytest.approx(330.0 * (1800.0 - 150.0) / 1800.0)
    assert source == "PixelSpacing"


@pytest.mark.parametrize("spacing", [None, (0.1, 0.1), (30.0, 30.0)])
def test_without_a_believable_spacing_the_frame_is_as_large_as_the_cohorts_mean(
    spacing: tuple[float, float] | None,
) -> None:
    assert frame_side_mm(radiograph(spacing), FRAME, RULE) == (RULE.mean_frame_side_mm, "cohort mean")


@pytest.mark.parametrize(
    ("magnification", "said", "side", "sentence"),
    [
        (
            None,
            "",
            330.0 * 1650 / 1800,
            "at the detector, with the customary magnification: the frame is 302 mm",
        ),
        (1.25, "source distances", 264.0, "at the detector, magnification 1.25 by source distances"),
        (1.0, "PixelSpacingCalibrationType GEOMETRY", 330.0, "calibrated in the patient"),
    ],
)
def test_the_files_magnification_wins_over_the_customary_one(
    magnification: float | None, said: str, side: float, sentence: str
) -> None:
    with_factor = replace(radiograph((3.3, 3.3)), magnification=magnification, magnification_source=said)

    assert frame_side_mm(with_factor, FRAME, RULE) == (pytest.approx(side), "PixelSpacing")
    assert sentence in size_sentence(with_factor, FRAME, RULE)
    assert size_doubts(with_factor, FRAME, RULE) == ()


def test_a_mean_size_and_a_childs_are_said() -> None:
    unknown, wrong, small = radiograph(None), radiograph((30.0, 30.0)), radiograph((1.5, 1.5))
    child = replace(small, age_years=6.0)

    assert "Its size is not known; the frame was taken to be" in size_doubts(unknown, FRAME, RULE)[0]
    assert "30 mm is not credible for an adult's chest" in size_doubts(wrong, FRAME, RULE)[0]
    assert "2750 mm wide (the spacing is wrong)" in size_doubts(wrong, FRAME, RULE)[0]
    assert "138 mm wide (the patient is a child, or the spacing is wrong)" in size_sentence(
        small, FRAME, RULE
    )
    assert frame_side_mm(small, FRAME, RULE) == (RULE.mean_frame_side_mm, "cohort mean")
    assert frame_side_mm(child, FRAME, RULE) == (pytest.approx(137.5), "PixelSpacing")
    assert "The child's frame is 138 mm wide" in size_doubts(child, FRAME, RULE)[0]


@pytest.mark.parametrize(("spacing", "noted"), [(1.65, True), (3.3, False), (2.3, True), (4.9, True)])
def test_half_or_twice_the_true_spacing_is_doubted_or_not_used(spacing: float, noted: bool) -> None:
    """3.3 mm are a frame of 302 mm; half of it is not used, and 211 and 449 mm are doubted."""
    doubts = size_doubts(radiograph((spacing, spacing)), FRAME, RULE)

    assert bool(doubts) == noted
    if spacing > 2 and noted:
        assert (
            f"{spacing * 100 * 1650 / 1800:.0f} mm wide by the PixelSpacing; 230 to 430 mm are usual"
            in doubts[0]
        )
        assert ("the patient is no child" in doubts[0]) == (spacing < 3)


def test_the_volume_is_axial_centred_and_as_deep_as_the_rule_says() -> None:
    affine = volume_affine(300.0, RULE)
    depth, height, width = RULE.grid
    corner = affine @ np.array([width - 0.5, height - 0.5, depth - 0.5, 1.0])
    assert corner[:3] == pytest.approx([150.0, 150.0 * RULE.depth_fraction, 150.0])
    assert np.count_nonzero(affine[:3, :3]) == 3
    assert (np.diag(affine) > 0).all()


def test_a_voxel_keeps_its_place_in_the_radiograph_when_the_frame_changes() -> None:
    """A plane at radiograph row 35 and a plane at radiograph column 95, seen from two frames."""
    rows = 110.0 - (np.arange(100) + 0.5)
    columns = 20.0 + (np.arange(100) + 0.5)
    volume = np.zeros((100, 10, 100), np.float32)
    volume += rows[:, None, None] + 1000 * columns
    target = FrontalFrame(top=30.0, left=40.0, side=50.0)
    moved = on_frame(volume, FRAME, target)
    assert moved[99, 5, 0] == pytest.approx(30.25 + 1000 * 40.25, abs=2)
    assert moved[0, 5, 99] == pytest.approx(79.75 + 1000 * 89.75, abs=2)
    assert np.array_equal(on_frame(volume, FRAME, FRAME), volume)


def test_an_image_of_the_radiograph_stands_before_the_middle_of_its_volume() -> None:
    """By hand: a frame of 100 pixels before a volume 200 mm wide: 2 mm a pixel, 4 mm a pixel of half as many.

    The volume's middle is at (10, 20, 30); the frame's is pixel edge (60, 70) of the radiograph, which is
    pixel edge (30, 35) of the image.
    """
    grid = (4, 8, 10)
    volume = Volume(np.zeros(grid, np.float32), axial_affine(grid, (200.0, 160.0, 200.0), (10.0, 20.0, 30.0)))
    placed = before_volume(np.zeros((64, 64), np.float32), radiograph(None), FRAME, volume)
    assert placed.array.shape == (1, 64, 64)
    assert placed.spacing == pytest.approx((4.0, 4.0, 2.0))
    corner = placed.affine @ [34.5, 29.5, 0, 1]  # (i, j, k): the edge (30, 35) in pixel centres
    assert corner[:3] == pytest.approx((10.0, 20.0, 30.0))
    left, inferior = placed.affine[:3, 0], placed.affine[:3, 1]
    assert left == pytest.approx((4.0, 0, 0))
    assert inferior == pytest.approx((0, 0, -4.0))
