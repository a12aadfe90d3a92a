"""Rules that HU keep: a spoilt CT is refused by the name of the rule it breaks, with the likely cause."""

from pathlib import Path

import numpy as np
import pytest
from ct_series import phantom

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.io.hounsfield import broken_rule, check_body, check_hounsfield, with_air_around
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume

HU = phantom().array
FILLERS = [0.0, 40.0, -200.0, 3071.0]


def noisy(seed: int = 0) -> np.ndarray:
    return HU + np.random.default_rng(seed).normal(0, 15, HU.shape).astype(np.float32)


@pytest.mark.parametrize(
    "array", [HU, noisy(), np.clip(noisy(), -1000, 400)], ids=["plain", "noisy", "clipped"]
)
def test_a_chest_ct_keeps_every_rule(array: np.ndarray) -> None:
    assert broken_rule(array) == ""


@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_padding_of_one_value_breaks_none(padding: int) -> None:
    padded = noisy()
    padded[:, :6] = padding

    assert broken_rule(padded) == ""


def test_lungs_with_all_around_them_masked_off_are_hu() -> None:
    """Of 12,288 voxels 30 are vessels: 0.24 %."""
    masked = np.where(HU == -850, HU, -1000)
    lung = np.argwhere(masked == -850)[:30]
    masked[tuple(lung.T)] = 40

    check_hounsfield(masked, "scan.nii")
    with pytest.raises(InputError, match="soft tissue"):
        check_hounsfield(np.where(HU == -850, HU, -1000), "scan.nii")


@pytest.mark.parametrize(
    ("spoil", "rule", "cause"),
    [
        (lambda hu: hu - 1024, "soft tissue between -200 and 300", "intercept of -1024 was applied twice"),
        (lambda hu: hu - 8192, "soft tissue", "intercept of -8192 was applied twice"),
        (lambda hu: hu * 10, "", "ten times HU"),
        (lambda hu: hu / 10, "air below -500", "a tenth of HU"),
        (lambda hu: -hu, "air below -500", "their sign is wrong"),
        (lambda hu: (hu + 1024) * 10 - 1024, "", "the stored values were multiplied by ten"),
        (lambda hu: hu + 1024, "air below -500", "the intercept of -1024 was not applied"),
        (lambda hu: np.full_like(hu, -1000), "soft tissue", "holds air alone"),
        (lambda hu: hu % 65536, "air below -500", "convert the scan again"),
        (lambda hu: (hu + 1000) / 1400, "air below -500", "lost or spoilt"),
    ],
)
@pytest.mark.parametrize("array", [HU, noisy()], ids=["plain", "noisy"])
def test_a_spoilt_scale_is_refused_by_the_rule_it_breaks(
    spoil, rule: str, cause: str, array: np.ndarray
) -> None:
    with pytest.raises(InputError) as caught:
        check_hounsfield(spoil(array), "scan.nii")

    assert f"Hounsfield units with {rule}" in caught.value.message
    assert "in scan.nii" in caught.value.message
    assert cause in caught.value.hint


@pytest.mark.parametrize("value", FILLERS)
def test_filler_of_any_value_breaks_no_rule(value: float) -> None:
    assert broken_rule(np.where(HU == -1000, np.float32(value), noisy())) == ""


def test_bone_does_not_pass_for_air_where_the_sign_is_wrong() -> None:
    with pytest.raises(InputError, match="nothing but bone, contrast medium and metal above 500") as caught:
        check_hounsfield(np.where(phantom(clot_hu=900.0).array == 900, -900, -noisy()), "scan.nii")

    assert "their sign is wrong" in caught.value.hint


def test_masked_lungs_are_no_excuse_for_other_rules() -> None:
    """0.24 % of soft tissue, and a tenth of the voxels far above metal."""
    masked = np.where(HU == -850, HU, -1000)
    masked[tuple(np.argwhere(masked == -850)[:30].T)] = 40
    masked[:, :4] = np.linspace(4000, 9000, masked[:, :4].size).reshape(masked[:, :4].shape)

    with pytest.raises(InputError, match="soft tissue"):
        check_hounsfield(masked, "scan.nii")


@pytest.mark.parametrize("value", FILLERS)
def test_what_a_mask_filled_around_the_body_becomes_air_and_is_named(value: float) -> None:
    masked = noisy()
    around = phantom().array == -1000
    masked[around] = value

    array, notes = with_air_around(masked)

    assert np.array_equal(array, np.where(around, np.float32(-1000), masked))
    assert len(notes) == 1
    assert f"{value:g} HU around the body is not air: {np.count_nonzero(around)} voxels" in notes[0]


def test_what_resampling_filled_at_one_end_becomes_air() -> None:
    moved = noisy()
    moved[:4] = 0

    array, notes = with_air_around(moved)

    assert (array[:4] == -1000).all()
    assert np.array_equal(array[4:], moved[4:])
    assert "0 HU around the body" in notes[0]


@pytest.mark.parametrize(
    "array",
    [HU, noisy(), np.where(phantom().array == -1000, -3024, noisy()), noisy()[:, 8:24, 6:26]],
    ids=["air", "noise", "padding below air", "cut within the body"],
)
def test_a_ct_without_filler_stays_as_it_is(array: np.ndarray) -> None:
    same, notes = with_air_around(array)

    assert same is array
    assert notes == ()


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(0.1, "centimetres"), (0.001, "metres"), (1 / 25.4, "inches"), (1000.0, "micrometres"), (10.0, "")],
)
def test_a_body_that_is_no_persons_is_refused_with_the_likely_unit(factor: float, unit: str) -> None:
    """The phantom's body is 300 mm wide, 220 mm deep and, like the scan, 240 mm high."""
    spacing = tuple(factor * mm for mm in phantom().spacing)

    with pytest.raises(InputError, match="Expected a body 60 to 750 mm wide in a CT") as caught:
        check_body(HU, spacing, "scan.nii")

    assert f"got {factor * 240:.3g} mm in scan.nii" in caught.value.message
    assert (f"seems to be in {unit}, not in mm" if unit else "Its spacing is wrong") in caught.value.hint


@pytest.mark.parametrize(
    "spacing",
    [phantom().spacing, (3.5, 3.5, 8.0), (20.0, 20.0, 100.0), (10.0, 10.0, 1.0)],
    ids=["adult", "newborn", "whole body", "slab"],
)
def test_bodies_of_persons_pass(spacing: tuple[float, float, float]) -> None:
    check_body(HU, spacing, "scan.nii")


def test_a_masked_ct_is_read_with_a_note_and_one_in_centimetres_is_refused(tmp_path: Path) -> None:
    volume = phantom()
    masked = np.where(volume.array == -1000, 0, volume.array)
    write_volume(volume.with_array(masked), tmp_path / "masked.nii.gz", np.int16)
    small = volume.affine.copy()
    small[:3] /= 10
    write_volume(Volume(volume.array, small), tmp_path / "small.nii.gz", np.int16)

    scan = read_ct(tmp_path / "masked.nii.gz")

    assert np.array_equal(scan.volume.array, volume.array)
    assert "0 HU around the body is not air" in scan.notes[-1]
    with pytest.raises(InputError, match="Expected a body 60 to 750 mm wide"):
        read_ct(tmp_path / "small.nii.gz")


def test_filler_is_no_soft_tissue(tmp_path: Path) -> None:
    """HU with an intercept applied twice: the mask's 0 alone lies between -200 and 300."""
    volume = phantom()
    spoilt = np.where(volume.array == -1000, 0, np.where(volume.array == -850, -1100, -900))
    write_volume(volume.with_array(spoilt), tmp_path / "scan.nii.gz", np.int16)

    with pytest.raises(InputError, match=r"soft tissue between -200 and 300.* without its filler"):
        read_ct(tmp_path / "scan.nii.gz")
