"""Where each radiographic sign of a virtual patient can be seen: what a classifier may be shown."""

import numpy as np

from xray2ctpa_core.cohort.deformation import ORGAN_REACHES, organ_centres
from xray2ctpa_core.cohort.signs import SIGNS
from xray2ctpa_core.cohort.template import Template

#: Signs that are an organ's size: they are seen at the organ.
_ORGAN_OF = {"cardiomegaly": "heart", "fleischner": "trunk", "hilum": "hila"}


def sign_bits(template: Template, signs: dict[str, bool], shown: dict[str, np.ndarray]) -> np.ndarray:
    """(D, H, W) uint8 on the template's grid: bit i is set where SIGNS[i] can be seen.

    Args:
        template: whose organs are large where a sign says so.
        signs: which the patient shows.
        shown: by sign, (D, H, W) bool, of those that lie in the lungs (appearance.Findings).
    """
    bits = np.zeros(template.hu.shape, np.uint8)
    for number, sign in enumerate(SIGNS):
        if not signs[sign.name]:
            continue
        where = _near(template, _ORGAN_OF[sign.name]) if sign.name in _ORGAN_OF else shown[sign.name]
        bits[where] |= np.uint8(1 << number)
    return bits


def sign_masks(bits: np.ndarray) -> np.ndarray:
    """(len(SIGNS), *bits.shape) bool of a bit map as `sign_bits` makes it."""
    return np.stack([(bits >> number) & 1 for number in range(len(SIGNS))]).astype(bool)


def _near(template: Template, organ: str) -> np.ndarray:
    """(D, H, W) bool: within the reach over which the organ's size is changed."""
    inside = np.zeros(template.hu.shape, bool)
    for centre in organ_centres(template, organ):
        z, y, x = (
            (np.arange(n) - c - at / step) * step / reach
            for n, c, at, step, reach in zip(
                template.hu.shape,
                template.centre,
                centre,
                template.spacing,
                ORGAN_REACHES[organ],
                strict=True,
            )
        )
        inside |= z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 1.0
    return inside
