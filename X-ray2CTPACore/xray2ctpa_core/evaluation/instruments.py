"""The instruments of an evaluation: perceptual distances, and networks whose features compare sets of
volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.evaluation.columns import PLANES
from xray2ctpa_core.evaluation.config import Metric
from xray2ctpa_core.metrics.features import FeatureNetwork, PlaneSlices, clip_network, slice_network
from xray2ctpa_core.metrics.image import to_unit
from xray2ctpa_core.metrics.perceptual import (
    ALEXNET_FILE,
    LPIPSDistance,
    PerceptualDistance,
    lpips_if_available,
)

METRICS = get_args(Metric)


@dataclass(frozen=True)
class Instruments:
    """The instruments for all volumes.

    Attributes:
        perceptual, lpips: distances of axial slices; LPIPS only with its weights.
        networks: by metric, the network in whose features sets of volumes are compared.
        seen: features of files that several arms share.
    """

    perceptual: PerceptualDistance
    lpips: LPIPSDistance | None
    networks: Mapping[str, FeatureNetwork]
    seen: dict[tuple[str, str, str], list[list[float]]] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Part of a row's key, because other instruments give other numbers."""
        parts = ["lpips"] if self.lpips else []
        return "+".join([*parts, *(network.title for network in self.networks.values())])

    @property
    def titles(self) -> dict[str, str]:
        """Heading of each set distance, with the features in which it is computed."""
        titles = {name: network.title for name, network in self.networks.items()}
        if set(PLANES) <= set(titles):
            titles["planes"] = "Fréchet distance of slices, the three directions together"
        return titles

    def features(
        self, hu: np.ndarray, window: tuple[float, float], file: Path | None = None
    ) -> dict[str, list[list[float]]]:
        """Features of (D, H, W) HU by each network, by the row's key; computed once for a ``file``."""
        found = {}
        for name, network in self.networks.items():
            key = (name, str(window), "" if file is None else str(file.resolve()))
            if file is None or key not in self.seen:
                rows = feature_rows(network, hu, window)
                if file is not None:
                    self.seen[key] = rows
            found[f"features_{name}"] = rows if file is None else self.seen[key]
        return found


def make_instruments(metrics: Sequence[str] = (), weights: str = "") -> Instruments:
    """The instruments for the requested metrics.

    Args:
        metrics: of METRICS.
        weights: folder that may hold I3D_FILE, INCEPTION_FILE and ALEXNET_FILE; "" for none.

    Raises:
        ConfigError: an unknown metric.
        InputError: "lpips" without its weights, or no such folder.
    """
    if not set(metrics) <= set(METRICS):
        raise ConfigError(f"Expected metrics of {', '.join(METRICS)}, got {', '.join(metrics)}.")
    perceptual, folder = PerceptualDistance(), Path(weights) if weights else None
    networks: dict[str, FeatureNetwork] = {}
    if "fvd" in metrics:
        networks["fvd"] = clip_network(folder, perceptual)
    if "fid" in metrics:
        networks["fid"] = slice_network(folder, perceptual)
    if "planes" in metrics:
        networks |= {plane: PlaneSlices(perceptual, plane) for plane in PLANES}
    if "lpips" in metrics:
        return Instruments(perceptual, LPIPSDistance(folder and folder / ALEXNET_FILE), networks)
    return Instruments(perceptual, lpips_if_available(folder), networks)


def feature_rows(network: FeatureNetwork, hu: np.ndarray, window: tuple[float, float]) -> list[list[float]]:
    """Features of (D, H, W) HU, rounded to six digits for the text of a store."""
    if not np.isfinite(hu).all():
        raise InputError("Expected finite voxels, got NaN or infinity.")
    features = network(torch.from_numpy(to_unit(hu, network.window or window) * 2 - 1))
    return [[float(f"{value:.6g}") for value in row] for row in features.tolist()]
