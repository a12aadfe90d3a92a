"""Closed-form regression of map and coarse volume, and the map whose bent tissue is nearest to the latter."""

import pytest
import torch
from torch.nn import functional

from xray2ctpa_core.training.expected_map import MapRegression, moved_to


def shifted_maps(shifts: torch.Tensor) -> torch.Tensor:
    """(N, 3, 8, 8, 8): the identity, moved by ``shifts`` (N,) along x."""
    axis = torch.linspace(-1, 1, 8)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    maps = torch.stack([x, y, z]).expand(len(shifts), -1, -1, -1, -1).clone()
    maps[:, 0] += shifts.view(-1, 1, 1, 1)
    return maps


def ball() -> torch.Tensor:
    """(24, 24, 24): 1 within half of the cube about its middle, softly -1 outside."""
    axis = torch.linspace(-1, 1, 24)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.tanh(6 * (0.5 - (x**2 + y**2 + z**2).sqrt()))


def coarse(template_map: torch.Tensor) -> torch.Tensor:
    """(12, 12, 12): the ball bent."""
    fine = functional.interpolate(template_map, size=(24,) * 3, mode="trilinear", align_corners=True)
    bent = functional.grid_sample(
        ball()[None, None], fine.permute(0, 2, 3, 4, 1), padding_mode="border", align_corners=True
    )
    return functional.avg_pool3d(bent, 2)[0, 0]


@pytest.fixture(scope="module")
def regression() -> MapRegression:
    shifts = torch.linspace(-0.3, 0.3, 13)
    features = torch.stack([shifts, shifts.square(), torch.ones_like(shifts)], 1)
    volumes = torch.stack([coarse(one[None]) for one in shifted_maps(shifts)])
    return MapRegression(features, shifted_maps(shifts), volumes)


def test_a_shift_that_features_hold_linearly_is_read_off_them(regression: MapRegression) -> None:
    expected = regression.at(torch.tensor([[0.17, 0.17**2, 1.0]]), 1e-7, 1e-7)
    assert torch.allclose(expected.template_map, shifted_maps(torch.tensor([0.17])), atol=2e-3)
    assert (expected.volume - coarse(shifted_maps(torch.tensor([0.17])))).abs().mean() < 0.05


def test_strong_regularisation_gives_the_mean(regression: MapRegression) -> None:
    expected = regression.at(torch.tensor([[0.17, 0.17**2, 1.0]]), 1e6, 1e6)
    assert torch.allclose(expected.template_map, shifted_maps(torch.tensor([0.0])), atol=1e-4)


def test_a_map_is_moved_to_where_the_expected_volume_lies(regression: MapRegression) -> None:
    features = torch.tensor([[0.2, 0.2**2, 1.0]])
    unmoved = regression.at(features, 1e6, 1e-7)
    moved = moved_to(unmoved, ball(), 40)
    assert moved[:, 0].sub(unmoved.template_map[:, 0]).mean() == pytest.approx(0.2, abs=0.05)
    assert moved[:, 1:].sub(unmoved.template_map[:, 1:]).abs().max() < 0.02


def test_no_iterations_leave_the_map(regression: MapRegression) -> None:
    expected = regression.at(torch.tensor([[0.2, 0.2**2, 1.0]]), 1e-4, 1e-4)
    assert torch.equal(moved_to(expected, ball(), 0), expected.template_map)
