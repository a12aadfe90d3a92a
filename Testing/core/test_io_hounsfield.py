"""Rules that HU keep: a spoilt CT is refused by the name of the rule it breaks, with the likely cause."""

import numpy as np
import pytest
from ct_series import phantom

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.hounsfield import broken_rule, check_extent, check_hounsfield

HU = phantom().array


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


def test_masked_lungs_are_no_excuse_for_other_rules() -> None:
    """0.24 % of soft tissue, and a tenth of the voxels far above metal."""
    masked = np.where(HU == -850, HU, -1000)
    masked[tuple(np.argwhere(masked == -850)[:30].T)] = 40
    masked[:, :4] = np.linspace(4000, 9000, masked[:, :4].size).reshape(masked[:, :4].shape)

    with pytest.raises(InputError, match="soft tissue"):
        check_hounsfield(masked, "scan.nii")


@pytest.mark.parametrize("spacing", [0.008, 8000.0])
def test_a_ct_of_no_person_is_refused(spacing: float) -> None:
    with pytest.raises(InputError, match="between 5 mm and 3 m long"):
        check_extent((40, 40, 30), (spacing,) * 3, "scan.nii")
    check_extent((40, 40, 30), (8.0, 8.0, 12.0), "scan.nii")
