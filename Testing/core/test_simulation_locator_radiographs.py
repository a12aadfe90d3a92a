"""Simulated radiographs: masks follow the anatomy, classes follow what was drawn, items are repeatable."""

import numpy as np
import pytest
import torch

from xray2ctpa_core.preprocessing.lung_box import OTHER_VIEW
from xray2ctpa_core.simulation.locator_radiographs import (
    FRONTAL,
    UNDECIDED,
    LocatorRadiographs,
    draw_shape,
    frontal_radiograph,
    other_radiograph,
)
from xray2ctpa_core.simulation.radiograph_anatomy import Placement, radiograph_coordinates, sample_layers
from xray2ctpa_core.simulation.radiograph_layers import LAYERS, LayeredView, project_layers, seen_lungs
from xray2ctpa_core.simulation.template import Template


def block_thorax() -> np.ndarray:
    """(7, 60, 30, 60) materials: a block of water with two blocks of lung."""
    materials = np.zeros((len(LAYERS), 60, 30, 60), np.float32)
    materials[0, :, 2:28, 4:56] = 1.0
    for side, columns in (("right", slice(8, 26)), ("left", slice(34, 52))):
        where = (slice(15, 55), slice(4, 26), columns)
        materials[0][where] = 0.0
        materials[LAYERS.index(side)][where] = 0.25
        materials[LAYERS.index(side + "_mm")][where] = 1.0
    return materials


@pytest.fixture(scope="module")
def view() -> LayeredView:
    return project_layers(block_thorax(), yaw=0.0, pitch=0.0)


def test_an_unturned_view_sums_each_material_along_the_depth(view):
    assert view.layer("right_mm").max() == pytest.approx(22 * 2.8)
    assert view.layer("solid")[0, 30] == pytest.approx(26 * 2.8)
    assert view.lung_box() == (5, 8, 45, 52)


def test_the_patients_right_lung_is_the_first_mask_on_the_images_left(view):
    where = np.mgrid[:60, :60].astype(np.float32)
    right, left = seen_lungs(sample_layers(view, where))
    assert np.argwhere(right)[:, 1].max() < np.argwhere(left)[:, 1].min()
    assert right.sum() == 40 * 18


def test_a_placement_puts_the_lungs_where_it_says(view):
    placement = Placement((100, 100), 0.5, 1.0, (0.5, 0.5), 0.0, 0.0, (0.0, 0.0))

    where = radiograph_coordinates(view, placement, np.random.default_rng(0))
    lungs = seen_lungs(sample_layers(view, where)).any(0)
    rows, columns = np.nonzero(lungs)
    assert (rows.min(), rows.max()) == pytest.approx((25, 74), abs=4)
    assert (columns.min(), columns.max()) == pytest.approx((25, 74), abs=4)


def test_frontal_radiographs_hold_lungs_in_range_and_say_whether_they_are_complete(view):
    for seed in range(5):
        radiograph = frontal_radiograph(view, np.random.default_rng(seed))
        assert radiograph.pixels.min() >= 0
        assert radiograph.pixels.max() <= 1
        assert radiograph.masks is not None
        assert radiograph.masks.shape[1:] == radiograph.pixels.shape
        assert radiograph.label in (FRONTAL, OTHER_VIEW, UNDECIDED)


def test_other_radiographs_are_never_labelled_frontal(view):
    rng = np.random.default_rng(0)
    assert {other_radiograph(view, view, rng).label for _ in range(12)} == {OTHER_VIEW}


def test_radiographs_are_portrait_landscape_and_square():
    rng = np.random.default_rng(0)
    shapes = [draw_shape(rng) for _ in range(60)]
    assert any(h > w for h, w in shapes)
    assert any(h < w for h, w in shapes)
    assert any(h == w for h, w in shapes)


def test_the_same_index_is_the_same_item_and_another_is_not():
    hu = np.random.default_rng(0).normal(0, 300, (20, 24, 24)).astype(np.float32)
    organs = np.zeros(hu.shape, np.uint8)
    template = Template(hu, organs, (2.5, 1.4, 1.4), (10.0, 12.0, 12.0), np.full(hu.shape, np.inf), hu)
    flat = project_layers(block_thorax(), 0.0, 0.0)
    radiographs = LocatorRadiographs(template, [flat], [flat], 10, seed=3)
    first, again, other = radiographs[1], radiographs[1], radiographs[2]
    assert first["image"].shape == (1, 128, 128)
    assert first["masks"].shape == (2, 128, 128)
    torch.testing.assert_close(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
