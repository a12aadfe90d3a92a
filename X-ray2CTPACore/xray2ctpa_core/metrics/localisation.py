"""Localisation by a heat map: share of its heat in a target, compared with that of a uniform map."""

from dataclasses import dataclass

import numpy as np

from xray2ctpa_core.errors import InputError


@dataclass(frozen=True)
class HeatShare:
    """Distribution of a map's heat.

    Attributes:
        in_target: share of the region's heat that lies in the target; NaN where the region has no heat.
        chance: share of the target in the region's volume, which is in_target of a uniform map.
        in_region: share of the whole map's heat that lies in the region; NaN for a map without heat.
    """

    in_target: float
    chance: float
    in_region: float


def heat_share(heat: np.ndarray, target: np.ndarray, region: np.ndarray) -> HeatShare:
    """Share of the heat within ``region`` that lies in ``target``, and its value by chance.

    Args:
        heat: (D, H, W) at least 0.
        target: (D, H, W) bool; its part outside the region is ignored.
        region: (D, H, W) bool, not empty, to which the comparison is restricted.
    """
    if not heat.shape == target.shape == region.shape:
        raise InputError(f"Expected one shape, got {heat.shape}, {target.shape} and {region.shape}.")
    if not region.any() or not (np.isfinite(heat).all() and (heat >= 0).all()):
        raise InputError("Expected a region that is not empty and finite heat of at least 0.")
    target = target & region
    total, within = float(heat.sum(dtype=np.float64)), float(heat[region].sum(dtype=np.float64))
    hit = float(heat[target].sum(dtype=np.float64))
    return HeatShare(
        in_target=hit / within if within > 0 else float("nan"),
        chance=float(target.sum() / region.sum()),
        in_region=within / total if total > 0 else float("nan"),
    )
