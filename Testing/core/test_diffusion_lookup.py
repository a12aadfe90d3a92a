"""Values and slopes of a volume at points, as torch's own look-up gives them."""

import torch
from torch.nn import functional

from xray2ctpa_core.diffusion.lookup import Lookup


def test_values_and_gradients_are_those_of_grid_sample_also_beyond_the_border() -> None:
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(4, 5, 6, generator=generator)
    points = 3 * torch.rand(2, 3, 7, 8, 9, generator=generator) - 1.5
    weights = torch.randn(2, 7, 8, 9, generator=generator)
    mine, theirs = (points.clone().requires_grad_() for _ in range(2))
    found = Lookup.apply(volume, mine)
    where = theirs.permute(0, 2, 3, 4, 1)
    expected = functional.grid_sample(
        volume.expand(2, 1, 4, 5, 6), where, padding_mode="border", align_corners=True
    )[:, 0]
    assert torch.allclose(found, expected, atol=1e-6)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)
    assert (points.abs() > 1).any()
    assert (mine.grad[points.abs() > 1] == 0).all()


def test_half_way_between_two_voxels_is_their_mean_and_the_slope_their_difference() -> None:
    """Two voxels a unit apart stand 2 apart in coordinates."""
    volume = torch.tensor([[[1.0, 3.0]]]).expand(2, 2, 2)
    point = torch.zeros(1, 3, 1, requires_grad=True)
    value = Lookup.apply(volume, point)
    assert value.item() == 2.0
    value.sum().backward()
    assert torch.equal(point.grad[0, :, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_a_point_that_is_not_a_number_has_no_value_and_leaves_others_theirs() -> None:
    """As after networks whose numbers overflow: the volume is refused where it is written, by name."""
    volume = torch.arange(8.0).reshape(2, 2, 2)
    points = torch.tensor([[-1.0, torch.nan, 1.0]]).expand(1, 3, 3)
    values = Lookup.apply(volume, points)[0]
    assert values[[0, 2]].tolist() == [0.0, 7.0]
    assert values[1].isnan()


def test_the_voxel_is_the_right_one_where_float32_skips_whole_numbers() -> None:
    """17.6 million voxels; each holds its number along x, and the last row is asked for."""
    volume = torch.arange(260.0).expand(260, 260, 260)
    assert volume.numel() > 2**24
    x = torch.linspace(-1, 1, 260)
    points = torch.stack([x, torch.ones(260), torch.ones(260)])[None]
    assert (Lookup.apply(volume, points)[0] - torch.arange(260.0)).abs().max() < 1e-3
