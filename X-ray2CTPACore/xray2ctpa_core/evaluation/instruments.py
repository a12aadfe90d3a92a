"""What volumes are measured with: perceptual distances, and networks whose features tell sets apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.evaluation.columns import PLANES
from xray2ctpa_core.metrics.features import FeatureNetwork, PlaneSlices, clip_network, slice_network
from xray2ctpa_core.metrics.image import to_unit
from xray2ctpa_core.metrics.perceptual import (
    ALEXNET_FILE,
    LPIPSDistance,
    PerceptualDistance,
    lpips_if_available,
)

#: What is measured on demand: it needs weights that are not embedded, or takes a while.
METRICS = ("fvd", "fid", "lpips", "planes")


@dataclass(frozen=True)
class Instruments:
    """What every volume is measured with.

    Attributes:
        perceptual, lpips: distances of axial slices; LPIPS where its weights are.
        networks: whose features sets of volumes are compared in, by metric.
        seen: features of files that several arms share.
    """

    perceptual: PerceptualDistance
    lpips: LPIPSDistance | None
    networks: Mapping[str, FeatureNetwork]
    seen: dict[tuple[str, str, str], list[list[float]]] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Part of a row's key: other instruments measure other numbers."""
        parts = ["lpips"] if self.lpips else []
        return "+".join([*parts, *(network.title for network in self.networks.values())])

    @property
    def titles(self) -> dict[str, str]:
        """Heading of each set distance: which features it was taken in."""
        titles = {name: network.title for name, network in self.networks.items()}
        if set(PLANES) <= set(titles):
            titles["planes"] = "Fréchet distance of slices, the three directions together"
        return titles

    def features(
        self, hu: np.ndarray, window: tuple[float, float], file: Path | None = None
    ) -> dict[str, list[list[float]]]:
        """What each network sees in (D, H, W) HU, by the row's key; of a ``file`` it is computed once."""
        found = {}
        for name, network in self.networks.items():
            key = (name, str(window), "" if file is None else str(file.resolve()))
            if file is None or key not in self.seen:
                rows = feature_rows(network, hu, window)
                if file is not None:
                    self.seen[key] = rows
            found[f"features_{name}"] = rows if file is None else self.seen[key]
        return found


def make_instruments(metrics: Sequence[str] = (), weights: Path | None = None) -> Instruments:
    """The instruments for what is asked for.

    Args:
        metrics: of METRICS.
        weights: folder that may hold I3D_FILE, INCEPTION_FILE and ALEXNET_FILE.

    Raises:
        ConfigError: an unknown metric.
        InputError: "lpips" asked for without its weights, or a folder that is none.
    """
    if not set(metrics) <= set(METRICS):
        raise ConfigError(f"Expected metrics of {', '.join(METRICS)}, got {', '.join(metrics)}.")
    perceptual = PerceptualDistance()
    networks: dict[str, FeatureNetwork] = {}
    if "fvd" in metrics:
        networks["fvd"] = clip_network(weights, perceptual)
    if "fid" in metrics:
        networks["fid"] = slice_network(weights, perceptual)
    if "planes" in metrics:
        networks |= {plane: PlaneSlices(perceptual, plane) for plane in PLANES}
    if "lpips" in metrics:
        return Instruments(
            perceptual, LPIPSDistance(None if weights is None else weights / ALEXNET_FILE), networks
        )
    return Instruments(perceptual, lpips_if_available(weights), networks)


def feature_rows(network: FeatureNetwork, hu: np.ndarray, window: tuple[float, float]) -> list[list[float]]:
    """Features of (D, H, W) HU, to the six digits that a store's text should hold of a float32."""
    if not np.isfinite(hu).all():
        raise InputError("Expected finite voxels, got NaN or infinity.")
    features = network(torch.from_numpy(to_unit(hu, network.window or window) * 2 - 1))
    return [[float(f"{value:.6g}") for value in row] for row in features.tolist()]
