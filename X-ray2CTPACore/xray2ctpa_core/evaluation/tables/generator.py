"""The numbers of a generator's arm: of each pair of volumes, and of the two sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.columns import SET_FEATURES, VOLUME_COLUMNS
from xray2ctpa_core.evaluation.instruments import Instruments
from xray2ctpa_core.evaluation.numbers import (
    Counted,
    by_patient,
    mean_of,
    paired_difference_of,
    set_distance,
)
from xray2ctpa_core.evaluation.rows import MEASURES
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.tables.arms import Pair
from xray2ctpa_core.evaluation.tables.cells import Cell, Comparison, Partial
from xray2ctpa_core.evaluation.volumes import VolumeMeter
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.volumes import read_axial_volume
from xray2ctpa_core.volume import Volume


@dataclass(frozen=True)
class VolumeBench:
    """The common settings for all generators.

    Attributes:
        window: HU (lower, upper) that volumes are clipped to.
        instruments: for volumes.
        store: of measured pairs.
    """

    window: tuple[float, float]
    instruments: Instruments
    store: RowStore


@dataclass(frozen=True)
class MeasuredPair:
    """One patient's rows: of the generated volume, and of the real one, which all arms share."""

    patient: str
    row: Row
    truth: Row


def measure_pair(pair: Pair, bench: VolumeBench) -> MeasuredPair:
    """The numbers of one pair, from the store if they were measured before.

    Raises:
        InputError: a volume that cannot be read, is no axial one or holds NaN, or two different grids. It
            names file and row.
    """
    real, generated = (file_sha256(file)[:16] for file in (pair.real, pair.generated))
    measured = f"{MEASURES}/{bench.instruments.identity}/{bench.window}/{real}"
    names: Row = {"patient": pair.patient}
    row = bench.store.get(f"{measured}/{generated}", lambda: _measure(pair, bench))
    truth = bench.store.get(f"{measured}/real", lambda: _meter(pair, bench, _read(pair)[0]).truth_row())
    return MeasuredPair(pair.patient, names | row, names | truth)


def generator_numbers(measured: Sequence[MeasuredPair]) -> dict[str, Cell]:
    """A generator's numbers for a table's columns, without those that could not be measured.

    Returns:
        VOLUME_COLUMNS: mean over patients with the t interval. SET_FEATURES: Fréchet distances with the
        jackknife's, of at least 3 patients.
    """
    made, real = by_patient([p.row for p in measured]), by_patient([p.truth for p in measured])
    found = {name: mean_of(made.values(), name) for name in VOLUME_COLUMNS}
    found |= {name: set_distance(name, made, real) for name in SET_FEATURES}
    return {name: _cell(counted, len(measured)) for name, counted in found.items() if counted is not None}


def compare_pairs(
    first: Sequence[MeasuredPair], second: Sequence[MeasuredPair], metric: str
) -> Comparison | None:
    """First minus second, paired by patient, with the t interval; None without shared patients."""
    sides = [by_patient([pair.row for pair in pairs]) for pairs in (first, second)]
    found = paired_difference_of(sides[0], sides[1], metric)
    return None if found is None else Comparison(found[1], found[0], None)


def _cell(counted: Counted, patients: int) -> Cell:
    interval, count = counted
    return interval if count == patients else Partial(interval, count)


def _measure(pair: Pair, bench: VolumeBench) -> Row:
    real, generated = _read(pair)
    return _meter(pair, bench, real).measure(generated.array)


def _meter(pair: Pair, bench: VolumeBench, real: Volume) -> VolumeMeter:
    return VolumeMeter(real, bench.window, bench.instruments, file=pair.real)


def _read(pair: Pair) -> tuple[Volume, Volume]:
    """The real and the generated volume, float32 HU on one grid."""
    try:
        real, generated = (read_axial_volume(path) for path in (pair.real, pair.generated))
        if real.array.shape != generated.array.shape or not np.allclose(
            real.affine, generated.affine, atol=1e-2
        ):
            raise InputError(
                f"Expected two volumes on one grid, got {real.array.shape} of {real.spacing} mm at "
                f"{real.origin} and {generated.array.shape} of {generated.spacing} mm at {generated.origin}."
            )
        for path, volume in ((pair.real, real), (pair.generated, generated)):
            if not np.isfinite(volume.array).all():
                raise InputError(f"Expected finite voxels, got NaN or infinity in {path.name}.")
    except InputError as error:
        raise InputError(f"{pair.where}: {error.message}", error.hint) from error
    return tuple(v.with_array(v.array.astype(np.float32)) for v in (real, generated))  # type: ignore[return-value]
