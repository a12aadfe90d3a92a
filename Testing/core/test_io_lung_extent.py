"""Size and shape of the lungs in a CT: a spacing that is wrong along one axis, or doubled, is found."""

from pathlib import Path

import numpy as np
import pytest
from ct_series import write_series

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.lung_extent import extent_doubts, lung_extents
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume, axial_affine

#: (z, y, x) mm: a body 256 x 352 mm wide whose lungs are whole in 30 slices.
EXTENT = (360.0, 256.0, 352.0)


def chest(scale: tuple[float, float, float] = (1.0, 1.0, 1.0), whole: bool = True) -> Volume:
    """(30, 32, 44) HU with two lungs of 240 x 160 mm, together 256 mm wide; ``scale`` along (i, j, k)."""
    array = np.full((30, 32, 44), -1000.0, np.float32)
    array[:, 2:30, 2:42] = 40.0
    ends = slice(5, 25) if whole else slice(0, 30)
    array[ends, 6:26, 6:20] = array[ends, 6:26, 24:38] = -850.0
    array[24 if whole else 0 :, 15:17, 21:23] = -950.0  # the trachea, which leaves the volume
    affine = axial_affine(array.shape, EXTENT)
    return Volume(array, affine @ np.diag([*scale, 1.0]))


def test_the_lungs_of_a_person_are_measured_without_their_trachea() -> None:
    assert lung_extents(chest()) == pytest.approx((256.0, 160.0, 240.0))
    assert extent_doubts(chest(), "scan.nii") == ()


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [
        ((1, 1, 0.1), "height over width of 0.094"),
        ((1, 1, 10), "height over width of 9.4"),
        ((1, 1, 0.001), "height over width"),
        ((0.1, 1, 1), "height over width of 9.4"),
        ((1, 0.1, 1), "width over depth of 16"),
    ],
)
def test_one_axis_in_another_unit_is_refused(scale: tuple, ratio: str, tmp_path: Path) -> None:
    write_volume(chest(scale), tmp_path / "scan.nii.gz", np.int16)

    with pytest.raises(InputError, match=ratio) as caught:
        read_ct(tmp_path / "scan.nii.gz")

    assert "spacing along one axis is wrong" in caught.value.hint


@pytest.mark.parametrize(
    ("scale", "noted"),
    [
        ((1, 1, 2), "a height over width of 1.9, where 0.6 to 1.35 is usual"),
        ((1, 1, 0.5), "a height over width of 0.47"),
        ((1, 0.5, 1), "a width over depth of 3.2"),
        ((2, 2, 2), "lungs 512 mm wide; 160 to 400 mm are usual of adults"),
        ((0.5, 0.5, 0.5), "lungs 128 mm wide"),
    ],
)
def test_a_factor_of_two_is_noted(scale: tuple, noted: str, tmp_path: Path) -> None:
    write_volume(chest(scale), tmp_path / "scan.nii.gz", np.int16)

    assert noted in " ".join(read_ct(tmp_path / "scan.nii.gz").notes)


def test_a_series_of_dicom_files_is_measured_alike(tmp_path: Path) -> None:
    write_series(tmp_path, chest((1, 1, 2)))

    assert "height over width of 1.9" in " ".join(read_ct(tmp_path).notes)


def test_axes_in_another_order_and_direction_are_measured_alike() -> None:
    """Stored from the head down, and with the slices along the first axis."""
    volume = chest()
    turned = Volume(np.ascontiguousarray(volume.array[::-1]), volume.affine @ np.diag([1, 1, -1, 1]))
    coronal = Volume(np.ascontiguousarray(volume.array.transpose(1, 0, 2)), volume.affine[:, [0, 2, 1, 3]])

    assert lung_extents(turned) == pytest.approx((256.0, 160.0, 240.0))
    assert lung_extents(coronal) == pytest.approx((256.0, 160.0, 240.0))


def test_lungs_that_the_scan_cuts_are_not_judged() -> None:
    assert lung_extents(chest(whole=False)) is None
    assert extent_doubts(chest((1, 1, 0.1), whole=False), "slab.nii") == ()
