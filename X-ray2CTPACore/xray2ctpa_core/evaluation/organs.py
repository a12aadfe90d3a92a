"""Lungs and heart of two volumes whose voxels do not correspond: shapes after alignment, and sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from xray2ctpa_core.evaluation.numbers import by_patient, entries, mean_of, unique
from xray2ctpa_core.evaluation.rows import TRUTH
from xray2ctpa_core.evaluation.store import Row
from xray2ctpa_core.metrics.dice import dice
from xray2ctpa_core.metrics.heart import heart_mask
from xray2ctpa_core.metrics.projection import lung_mask
from xray2ctpa_core.metrics.similarity import moved, similarity_of

#: Dice of a generated organ with the own CT's after alignment of the lungs; millilitres of the organ; its
#: relative difference from the own CT's.
COLUMNS = ("lung_dice", "heart_dice", "lung_ml", "heart_ml", "lung_difference", "heart_difference")


@dataclass(frozen=True)
class Organs:
    """Lungs and heart of one volume, by the same rule for real and generated ones.

    Args:
        hu: (D, H, W) HU, axial.
        spacing: mm along (i, j, k).
    """

    hu: np.ndarray
    spacing: tuple[float, float, float]

    @cached_property
    def lungs(self) -> np.ndarray:
        """(D, H, W) bool."""
        return lung_mask(self.hu)

    @cached_property
    def heart(self) -> np.ndarray:
        """(D, H, W) bool."""
        return heart_mask(self.hu, self.lungs, self.spacing)

    @property
    def sizes(self) -> Row:
        """lung_ml and heart_ml; None for an organ that was not found."""
        voxel = float(np.prod(self.spacing)) / 1000
        found = {"lung_ml": self.lungs.sum() * voxel, "heart_ml": self.heart.sum() * voxel}
        return {name: float(value) or None for name, value in found.items()}

    def beside(self, truth: "Organs") -> Row:
        """COLUMNS of this volume, compared with the own CT on the same grid.

        The similarity that aligns the lungs with the CT's (equal centroids, equal sizes) is applied to lungs
        and heart, so that shape and relative position are compared, but not inspiration, posture or
        magnification. None if the CT shows no such organ; Dice 0 if this volume shows none.
        """
        row, real = self.sizes, truth.sizes
        for organ in ("lung", "heart"):
            made, own = row[f"{organ}_ml"], real[f"{organ}_ml"]
            row[f"{organ}_difference"] = (made or 0.0) / own - 1 if own else None
        if not self.lungs.any() or not truth.lungs.any():
            return row | {name: 0.0 if truth.lungs.any() else None for name in ("lung_dice", "heart_dice")}
        laid = similarity_of(self.lungs, truth.lungs, self.spacing)
        pairs = {"lung_dice": (self.lungs, truth.lungs), "heart_dice": (self.heart, truth.heart)}
        for name, (mask, reference) in pairs.items():
            value = dice(moved(mask, laid, self.spacing), reference)
            row[name] = None if np.isnan(value) else value
        return row


def summarise_organs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Means over patients with intervals, one dictionary for each bundle and method; the own CT's sizes are
    the last."""
    found = []
    for bundle in unique(row["bundle"] for row in rows):
        methods = unique(row["method"] for row in rows if row["bundle"] == bundle)
        for method in sorted(methods, key=lambda method: method == TRUTH):
            chosen = by_patient([row for row in rows if (row["bundle"], row["method"]) == (bundle, method)])
            numbers = entries({column: mean_of(chosen.values(), column) for column in COLUMNS})
            found.append({"bundle": bundle, "method": method, "patients": len(chosen)} | numbers)
    return found
