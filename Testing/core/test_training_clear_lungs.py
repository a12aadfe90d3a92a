"""Tissue of a bank shows vessels of one person, and nobody's disease."""

import pytest
import torch

from xray2ctpa_core.training.clear_lungs import clear_lungs

VOXEL_MM = (4.0, 4.0, 4.0)
SIZE = (44, 40, 60)
TISSUE, LUNG, AIR = 0.1, -0.85, -1.0


def places() -> torch.Tensor:
    """(3, *SIZE), z, y, x of the voxels in mm from the middle."""
    axes = [mm * (torch.arange(n) - (n - 1) / 2) for n, mm in zip(SIZE, VOXEL_MM, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def ball(z: float, y: float, x: float, radius: float) -> torch.Tensor:
    """(*SIZE) bool."""
    return (places() - torch.tensor([z, y, x])[:, None, None, None]).square().sum(0) <= radius**2


def lungs() -> torch.Tensor:
    """(*SIZE) bool: two, apart."""
    z, y, x = places()
    return sum(((z / 65) ** 2 + (y / 50) ** 2 + ((x - side) / 38) ** 2 <= 1).int() for side in (-45, 45)) > 0


def healthy() -> torch.Tensor:
    """(*SIZE): a body with lungs, and one vessel in the left."""
    _, y, x = places()
    volume = torch.where((y / 75) ** 2 + (x / 110) ** 2 <= 1, TISSUE, AIR)
    volume[lungs()] = LUNG
    volume[(y.abs() <= 2) & ((x - 42).abs() <= 2) & lungs()] = TISSUE
    return volume


@pytest.fixture(scope="module")
def people() -> torch.Tensor:
    """Four: healthy; with a mass; with a bulla; with a higher diaphragm."""
    volumes = healthy().repeat(4, 1, 1, 1)
    volumes[1][ball(20, 0, -45, 14)] = TISSUE
    volumes[2][ball(-20, 20, 50, 14)] = AIR
    volumes[3][(places()[0] > 30) & lungs()] = TISSUE
    return volumes


@pytest.fixture(scope="module")
def cleared(people) -> torch.Tensor:
    return clear_lungs(people, VOXEL_MM)


def test_a_mass_becomes_lung(people, cleared):
    mass = ball(20, 0, -45, 14)
    assert people[1][mass].min() == pytest.approx(TISSUE)
    assert cleared[1][mass].max() < LUNG + 0.05


def test_a_mass_at_the_border_of_a_lung_becomes_lung_within(people):
    volumes = people.clone()
    at_border = ball(0, -38, -45, 14) & lungs()
    volumes[1][at_border] = TISSUE
    within = at_border & ball(0, 0, -45, 38)
    assert clear_lungs(volumes, VOXEL_MM)[1][within].mean() < LUNG + 0.1


def test_a_bulla_becomes_lung(cleared):
    assert cleared[2][ball(-20, 20, 50, 8)].min() > LUNG - 0.05


def test_vessels_stay_a_persons_own(people, cleared):
    vessel = (people[0] > 0) & lungs()
    assert vessel.any()
    assert (cleared[0] - people[0])[vessel].abs().max() < 0.05


def test_what_is_not_lung_stays_as_it_was(people, cleared):
    outside = ~lungs()
    assert torch.equal(cleared[:, outside], people[:, outside])


def test_a_higher_diaphragm_stays(people, cleared):
    below = (places()[0] > 38) & lungs()
    assert (cleared[3] - people[3])[below].abs().mean() < 0.05


def test_the_same_for_any_order_of_the_people(people, cleared):
    assert torch.allclose(clear_lungs(people.flip(0), VOXEL_MM).flip(0), cleared, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_people_stay_as_they_were(people, number):
    assert torch.equal(clear_lungs(people[:number], VOXEL_MM), people[:number])


def test_people_without_lungs_stay_as_they_were():
    volumes = torch.full((3, 8, 8, 8), TISSUE)
    assert torch.equal(clear_lungs(volumes, VOXEL_MM), volumes)


def test_voxels_larger_than_a_vessel_stay_as_they_were(people):
    assert torch.equal(clear_lungs(people, (8.0, 8.0, 8.0)), people)
