"""Masks of a virtual patient's visible radiographic signs."""

import numpy as np

from xray2ctpa_core.simulation.deformation import ORGAN_REACHES, organ_centres
from xray2ctpa_core.simulation.signs import SIGNS
from xray2ctpa_core.simulation.template import Template

#: Signs that consist in an organ's size, with the organ at which they are visible.
_ORGAN_OF = {"cardiomegaly": "heart", "fleischner": "trunk", "hilum": "hila"}


def sign_bits(template: Template, signs: dict[str, bool], shown: dict[str, np.ndarray]) -> np.ndarray:
    """(D, H, W) uint8 on the template's grid: bit i is set where SIGNS[i] is visible.

    Args:
        template: gives the positions of the organs whose size is a sign.
        signs: presence of each sign in the patient.
        shown: for each sign in the lungs, (D, H, W) bool, its voxels (appearance.Findings).
    """
    bits = np.zeros(template.hu.shape, np.uint8)
    for number, sign in enumerate(SIGNS):
        if not signs[sign.name]:
            continue
        where = _near(template, _ORGAN_OF[sign.name]) if sign.name in _ORGAN_OF else shown[sign.name]
        bits[where] |= np.uint8(1 << number)
    return bits


def _near(template: Template, organ: str) -> np.ndarray:
    """(D, H, W) bool: the region in which the organ's size is changed."""
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
