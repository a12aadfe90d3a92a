"""The numbers of a generator's arm: each pair of volumes compared, and distances of the two sets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.images import feature_rows, network_slices
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.tables.arms import Pair
from xray2ctpa_core.evaluation.tables.cells import Cell, Comparison
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.volumes import read_axial_volume
from xray2ctpa_core.metrics.features import FeatureNetwork
from xray2ctpa_core.metrics.frechet import frechet_interval
from xray2ctpa_core.metrics.image import SSIM_RADIUS, mae, psnr, slice_ssim, ssim
from xray2ctpa_core.metrics.intervals import bootstrap_mean, paired_bootstrap_difference
from xray2ctpa_core.metrics.perceptual import LPIPSDistance, PerceptualDistance
from xray2ctpa_core.metrics.projection import frontal_projection, normalised_cross_correlation

#: Part of every row's key; raised when a number's definition changes, so that old rows are not reused.
MEASURES = "2"
#: Numbers of one pair, each averaged over patients; the others compare the sets.
PAIR_METRICS = ("psnr", "ssim", "slice_ssim", "mae", "lpips", "perceptual", "projection")
SET_METRICS = ("fvd", "fid")


@dataclass(frozen=True)
class VolumeBench:
    """What all generators are measured with.

    Attributes:
        window: HU (lower, upper) that volumes are clipped to.
        perceptual: distance of axial slices; lpips: the same by LPIPS, None without its weights.
        clips, slices: the networks whose features FVD and FID, or their substitutes, are taken in.
        store: of pairs already measured.
        seen: features of real volumes by file and network, which all arms share.
    """

    window: tuple[float, float]
    perceptual: PerceptualDistance
    lpips: LPIPSDistance | None
    clips: FeatureNetwork
    slices: FeatureNetwork
    store: RowStore
    seen: dict[tuple[str, str], list[list[float]]] = field(default_factory=dict)

    def features(self, metric: str, hu: np.ndarray, file: Path | None = None) -> list[list[float]]:
        """What the network of ``metric`` sees in (D, H, W) HU; of a ``file`` it is computed once."""
        network = {"fvd": self.clips, "fid": self.slices}[metric]
        if file is None:
            return feature_rows(network, hu, self.window)
        key = (metric, str(file.resolve()))
        if key not in self.seen:
            self.seen[key] = feature_rows(network, hu, self.window)
        return self.seen[key]


@dataclass(frozen=True)
class MeasuredPair:
    """One patient's numbers, and the features of the real and the generated volume (rows, features)."""

    patient: str
    values: dict[str, float]
    features: dict[str, tuple[np.ndarray, np.ndarray]]


def measure_pair(pair: Pair, bench: VolumeBench) -> MeasuredPair:
    """The numbers of one pair, from the store where they were measured before.

    Raises:
        InputError: a volume that cannot be read, is no axial one or holds NaN, or two different grids. It
            names file and row.
    """
    key = "/".join(
        [
            MEASURES,
            file_sha256(pair.real)[:16],
            file_sha256(pair.generated)[:16],
            f"{bench.window}",
            "lpips" if bench.lpips else "",
            bench.clips.title,
            bench.slices.title,
        ]
    )
    row = bench.store.get(key, lambda: _measure(pair, bench))
    features = {name: (np.array(row[name]["real"]), np.array(row[name]["generated"])) for name in SET_METRICS}
    return MeasuredPair(pair.patient, dict(row["values"]), features)


def generator_numbers(measured: Sequence[MeasuredPair]) -> dict[str, Cell]:
    """What a table's columns may ask of a generator; what could not be measured is left out.

    Returns:
        PAIR_METRICS: mean over patients with the bootstrap's interval. fvd, fid: Fréchet distances with the
        jackknife's, of at least 3 patients.
    """
    numbers: dict[str, Cell] = {}
    for name in PAIR_METRICS:
        values = np.array([pair.values.get(name, np.nan) for pair in measured])
        if np.isfinite(values).any():
            numbers[name] = bootstrap_mean(values[np.isfinite(values)])
    if len(measured) < 3:
        return numbers
    for name in SET_METRICS:
        sets = [np.concatenate([pair.features[name][side] for pair in measured]) for side in (0, 1)]
        owners = [[p.patient for p in measured for _ in p.features[name][side]] for side in (0, 1)]
        numbers[name] = frechet_interval(sets[0], sets[1], owners[0], owners[1])
    return numbers


def compare_pairs(
    first: Sequence[MeasuredPair], second: Sequence[MeasuredPair], metric: str
) -> Comparison | None:
    """First minus second, paired by patient, with the bootstrap's interval; None without shared patients."""
    other = {pair.patient: pair.values.get(metric, np.nan) for pair in second}
    both = np.array(
        [(p.values.get(metric, np.nan), other[p.patient]) for p in first if p.patient in other],
        dtype=np.float64,
    ).reshape(-1, 2)
    both = both[np.isfinite(both).all(axis=1)]
    if not len(both):
        return None
    return Comparison(len(both), paired_bootstrap_difference(both[:, 0], both[:, 1]), None)


def _measure(pair: Pair, bench: VolumeBench) -> Row:
    try:
        real, generated = read_axial_volume(pair.real), read_axial_volume(pair.generated)
        if real.array.shape != generated.array.shape or not np.allclose(
            real.affine, generated.affine, atol=1e-2
        ):
            raise InputError(
                f"Expected two volumes on one grid, got {real.array.shape} of {real.spacing} mm at "
                f"{real.origin} and {generated.array.shape} of {generated.spacing} mm at {generated.origin}."
            )
        arrays = [volume.array.astype(np.float32) for volume in (real, generated)]
        for path, array in zip((pair.real, pair.generated), arrays, strict=True):
            if not np.isfinite(array).all():
                raise InputError(f"Expected finite voxels, got NaN or infinity in {path.name}.")
        return _compare(arrays[0], arrays[1], bench, pair.real)
    except InputError as error:
        raise InputError(f"{pair.where}: {error.message}", error.hint) from error


def _compare(real: np.ndarray, generated: np.ndarray, bench: VolumeBench, file: Path) -> Row:
    metrics = {"psnr": psnr, "slice_ssim": slice_ssim, "mae": mae, "projection": _projection}
    if min(real.shape) > 2 * SSIM_RADIUS:  # a 3D window does not fit into fewer slices
        metrics["ssim"] = ssim
    values = {name: float(metric(generated, real, bench.window)) for name, metric in metrics.items()}
    distances = {"perceptual": bench.perceptual} | ({} if bench.lpips is None else {"lpips": bench.lpips})
    slices = [network_slices(hu, bench.window) for hu in (generated, real)]
    for name, distance in distances.items():
        with torch.no_grad():
            values[name] = float(distance(slices[0], slices[1]).mean())
    row: Row = {"values": values}
    for name in SET_METRICS:
        row[name] = {"real": bench.features(name, real, file), "generated": bench.features(name, generated)}
    return row


def _projection(generated: np.ndarray, real: np.ndarray, window: tuple[float, float]) -> float:
    """Correlation of the frontal projections of two volumes (D, H, W) in HU, both clipped to the window."""
    one, other = (frontal_projection(np.clip(hu, *window)) for hu in (generated, real))
    return normalised_cross_correlation(one, other)
