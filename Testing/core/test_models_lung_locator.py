"""The locator's network and what is made of its output, at tiny size."""

import numpy as np
import pytest
import torch

from xray2ctpa_core.models.framing.lung_location import locate_lungs_in
from xray2ctpa_core.models.framing.lung_locator import LungLocator


@pytest.fixture
def tiny() -> LungLocator:
    torch.manual_seed(0)
    return LungLocator(channels=(4, 8, 8), size=32).eval()


def radiograph(height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(0).random((height, width)).astype(np.float32)


def test_masks_have_the_inputs_size_and_there_are_three_classes(tiny):
    output = tiny(torch.rand(2, 1, 32, 32))
    assert output.mask_logits.shape == (2, 2, 32, 32)
    assert output.class_logits.shape == (2, 3)
    assert output.mirrored_logits.shape == (2,)


def test_the_default_locator_is_small():
    assert sum(p.numel() for p in LungLocator().parameters()) <= 500_000


def test_a_width_that_groups_do_not_divide_is_named():
    with pytest.raises(ValueError, match="divisible by 4"):
        LungLocator(channels=(6, 8), size=32)


def test_the_locator_survives_saving_and_loading(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    again = LungLocator.from_pretrained(tmp_path).eval()
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(again(image).mask_logits, tiny(image).mask_logits)


def test_a_location_is_given_in_radiograph_pixels(tiny):
    with torch.no_grad():
        tiny.mask_head.weight.zero_()
        tiny.mask_head.bias.fill_(1.0)
    location = locate_lungs_in(tiny, [radiograph(60, 90)])[0]
    assert location.mask.all()
    assert (location.square.top, location.square.left, location.square.side) == (-15, 0, 90)
    assert location.box == pytest.approx((-15, 0, 75, 90), abs=1.0)


def test_class_probabilities_sum_to_one(tiny):
    assert locate_lungs_in(tiny, [radiograph()])[0].class_probabilities.sum() == pytest.approx(1.0)


def test_a_radiograph_is_located_the_same_whatever_else_is_in_the_batch(tiny):
    alone = locate_lungs_in(tiny, [radiograph()])[0]
    among = locate_lungs_in(tiny, [radiograph(40, 40), radiograph()])[1]
    np.testing.assert_array_equal(alone.mask, among.mask)
    np.testing.assert_allclose(alone.class_probabilities, among.class_probabilities, atol=1e-6)
