"""Resampling, cropping and turning leave every point of the patient where it was."""

import nibabel as nib
import numpy as np
import pytest

from xray2ctpa_core.preprocessing.grid import (
    alternate_slices,
    cropped,
    isotropic_grid,
    resample_onto,
    resized,
    to_axial,
)
from xray2ctpa_core.volume import Volume


def places(volume: Volume) -> np.ndarray:
    """(3, D, H, W) LPS mm of every voxel."""
    k, j, i = np.indices(volume.array.shape)
    return np.einsum("ab,bkji->akji", volume.affine[:3, :3], np.stack([i, j, k])) + volume.affine[
        :3, 3
    ].reshape(3, 1, 1, 1)


def ramp(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    """A volume whose value is x + 2 y - 3 z of the place: exact under linear interpolation."""
    grid = Volume(np.zeros(shape, np.float32), affine)
    x, y, z = places(grid)
    return grid.with_array((x + 2 * y - 3 * z).astype(np.float32))


def largest_error(volume: Volume) -> float:
    """Largest difference to the ramp, away from the edges."""
    x, y, z = places(volume)
    return float(np.abs(volume.array - (x + 2 * y - 3 * z))[2:-2, 2:-2, 2:-2].max())


AXIAL = np.diag([0.7, 0.8, 2.5, 1.0])


def oblique() -> np.ndarray:
    turn = np.deg2rad(15)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return affine @ AXIAL


def tilted() -> np.ndarray:
    """Slices 20 degrees off the table's axis, stacked along it."""
    affine = AXIAL.copy()
    affine[:3, 1] = 0.8 * np.array([0, np.cos(np.deg2rad(20)), -np.sin(np.deg2rad(20))])
    return affine


@pytest.mark.parametrize("codes", ["LPS", "RAS", "RPI", "PSL", "SAR"])
def test_any_orientation_becomes_left_posterior_superior(codes: str) -> None:
    straight = ramp(np.diag([2.0, 3.0, 4.0, 1.0]), (4, 5, 6))
    ornt = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("LPS", labels=(("R", "L"), ("A", "P"), ("I", "S"))),
        nib.orientations.axcodes2ornt(codes, labels=(("R", "L"), ("A", "P"), ("I", "S"))),
    )
    stored = straight.array.transpose(2, 1, 0)
    turned = nib.orientations.apply_orientation(stored, ornt).transpose(2, 1, 0)
    affine = straight.affine @ nib.orientations.inv_ornt_aff(ornt, stored.shape)

    back = to_axial(Volume(np.ascontiguousarray(turned), affine))

    assert np.array_equal(back.array, straight.array)
    assert back.affine == pytest.approx(straight.affine)


@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
def test_an_isotropic_grid_covers_the_volume_and_keeps_every_place(affine: np.ndarray) -> None:
    volume = ramp(affine, (20, 40, 50))
    grid, shape = isotropic_grid(volume, 1.0)
    made = resample_onto(volume, grid, shape, outside=np.nan)

    assert made.spacing == pytest.approx((1.0, 1.0, 1.0))
    assert made.direction.T @ made.direction == pytest.approx(np.eye(3), abs=1e-9)
    inside = made.with_array(np.where(np.isfinite(made.array), made.array, 0))
    x, y, z = places(inside)
    error = np.abs(inside.array - (x + 2 * y - 3 * z))[np.isfinite(made.array)]
    # Beyond the outermost voxels' centres (half a voxel of 2.5 mm, slope 3) the edge value is repeated.
    assert np.quantile(error, 0.6) < 1e-3
    assert error.max() < 5.5


def test_an_isotropic_grid_of_a_straight_volume_has_its_extent_and_middle() -> None:
    grid, shape = isotropic_grid(ramp(AXIAL, (20, 40, 50)), 1.0)

    assert shape == (50, 32, 35)  # 20 x 2.5, 40 x 0.8, 50 x 0.7 mm
    middle_index = [(35 - 1) / 2, (32 - 1) / 2, (50 - 1) / 2, 1]
    assert grid @ middle_index == pytest.approx([0.7 * 49 / 2, 0.8 * 39 / 2, 2.5 * 19 / 2, 1.0])


def test_voxels_outside_become_air() -> None:
    volume = Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = 2.0

    made = resample_onto(volume, shifted, (4, 4, 4))

    assert made.array[0, 0].tolist() == [0, 0, -1000, -1000]


def test_a_coarser_grid_averages_rather_than_skips() -> None:
    stripes = np.zeros((4, 4, 64), np.float32)
    stripes[:, :, ::2] = 100.0
    made = resized(Volume(stripes, np.eye(4)), (4, 4, 16))

    assert made.array[:, :, 2:-2] == pytest.approx(50.0, abs=8.0)


def test_resizing_keeps_the_outer_edges_and_every_place() -> None:
    volume = ramp(oblique(), (24, 30, 36))
    made = resized(volume, (12, 40, 18))

    assert made.array.shape == (12, 40, 18)
    assert largest_error(made) < 1e-2
    for corner, new in (((-0.5, -0.5, -0.5), (-0.5, -0.5, -0.5)), ((35.5, 29.5, 23.5), (17.5, 39.5, 11.5))):
        assert made.affine @ [*new, 1] == pytest.approx(volume.affine @ [*corner, 1])


def test_a_crop_keeps_every_place() -> None:
    made = cropped(ramp(oblique(), (20, 20, 20)), ((2, 12), (3, 13), (4, 14)))

    assert made.array.shape == (10, 10, 10)
    assert largest_error(made) < 1e-4


def test_alternate_slices_are_two_volumes_between_one_another() -> None:
    volume = ramp(AXIAL, (8, 6, 6))
    even, odd = alternate_slices(volume, 2)

    assert np.array_equal(even.array, volume.array[::2])
    assert np.array_equal(odd.array, volume.array[1::2])
    assert even.affine @ [1, 2, 3, 1] == pytest.approx(volume.affine @ [1, 2, 6, 1])
    assert odd.affine @ [1, 2, 3, 1] == pytest.approx(volume.affine @ [1, 2, 7, 1])
