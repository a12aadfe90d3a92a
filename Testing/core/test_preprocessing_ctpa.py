"""The paper's steps on a phantom: window, crop, shape, alternate slices, and every voxel's place."""

import numpy as np
import pytest
from ct_series import phantom

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.preprocessing.ctpa import CtpaSettings, preprocess_ctpa
from xray2ctpa_core.volume import Volume

SMALL = CtpaSettings(spacing_mm=4.0, lungs="threshold", shape=(24, 48, 48))


def fine_phantom() -> Volume:
    """At 5 x 5 x 5 mm, with a bright ball of 20 mm around LPS (35, 50, 70)."""
    return phantom((48, 64, 64), clot_hu=700.0)


def centre_of_bright(volume: Volume) -> np.ndarray:
    """LPS mm of the middle of what is above 350 HU."""
    k, j, i = np.argwhere(volume.array > 350).mean(axis=0)
    return (volume.affine @ [i, j, k, 1])[:3]


def test_a_scan_becomes_two_volumes_of_alternate_slices_in_the_window() -> None:
    made = preprocess_ctpa(fine_phantom(), SMALL)

    assert [volume.array.shape for volume in made.volumes] == [(12, 48, 48)] * 2
    for volume in made.volumes:
        assert volume.array.min() == pytest.approx(-100.0)
        assert 600 < volume.array.max() <= 700.0
    assert made.lungs == "threshold"


def test_every_processed_voxel_maps_back_to_its_place_in_the_patient() -> None:
    for volume in preprocess_ctpa(fine_phantom(), SMALL).volumes:
        # Half a processed voxel: 9 mm between the slices of one volume.
        assert centre_of_bright(volume) == pytest.approx([35.0, 50.0, 70.0], abs=4.5)
    even, odd = preprocess_ctpa(fine_phantom(), SMALL).volumes
    assert (odd.affine - even.affine)[:3, 3] == pytest.approx(even.affine[:3, 2] / 2)


def test_the_same_scan_in_another_orientation_gives_the_same_volumes() -> None:
    scan = fine_phantom()
    turned = scan.affine @ np.array([[-1, 0, 0, 63], [0, -1, 0, 63], [0, 0, -1, 47], [0, 0, 0, 1.0]])
    flipped = Volume(np.ascontiguousarray(scan.array[::-1, ::-1, ::-1]), turned)

    for one, other in zip(
        preprocess_ctpa(scan, SMALL).volumes, preprocess_ctpa(flipped, SMALL).volumes, strict=True
    ):
        assert np.allclose(one.array, other.array, atol=1e-2)
        assert one.affine == pytest.approx(other.affine)


def test_the_crop_is_the_lungs_with_their_margin() -> None:
    made = preprocess_ctpa(fine_phantom(), SMALL)
    bottom, top = (edge * 4.0 for edge in made.box[0])
    right, left = (edge * 4.0 for edge in made.box[2])

    # Lungs of 190 mm height and 240 mm width; margin 10 mm at each side, rounded to voxels of 4 mm.
    assert top - bottom == pytest.approx(210.0, abs=12.0)
    assert left - right == pytest.approx(260.0, abs=12.0)
    assert preprocess_ctpa(fine_phantom(), CtpaSettings(4.0, lungs="none", shape=(24, 48, 48))).box == (
        (0, 60),
        (0, 80),
        (0, 80),
    )


def test_one_volume_is_made_without_interleaving() -> None:
    (volume,) = preprocess_ctpa(
        fine_phantom(), CtpaSettings(4.0, lungs="threshold", shape=(24, 48, 48), interleave=1)
    ).volumes

    assert volume.array.shape == (24, 48, 48)


def test_the_scan_is_not_touched_and_nan_is_refused() -> None:
    scan = fine_phantom()
    before = scan.array.copy()
    preprocess_ctpa(scan, SMALL)
    assert np.array_equal(scan.array, before)
    scan.array[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="got 1 NaN or infinite"):
        preprocess_ctpa(scan, SMALL)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"spacing_mm": 0.0}, "spacing_mm > 0"),
        ({"window": (900.0, -100.0)}, "window as"),
        ({"lungs": "unet"}, "lungs out of"),
        ({"shape": (64, 64)}, "shape as"),
        ({"shape": (65, 64, 64)}, "divides the 65 slices"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CtpaSettings(**wrong)
