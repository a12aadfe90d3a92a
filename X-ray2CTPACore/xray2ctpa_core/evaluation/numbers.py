"""Statistics of rows over patients: means, paired differences, distances of sets.

NaN or None in a row means that there was nothing to measure (for example Dice of an organ that the patient's
CT does not show): the patient is left out and not counted. An infinite number (the PSNR of equal volumes) is
included and makes the mean infinite.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xray2ctpa_core.evaluation.columns import SET_FEATURES, VOLUME_COLUMNS
from xray2ctpa_core.evaluation.store import Row
from xray2ctpa_core.metrics.frechet import frechet_interval
from xray2ctpa_core.metrics.intervals import Interval, mean_interval, without_interval

#: With fewer patients the distance of two sets has no interval.
LEAST_PATIENTS = 3
#: An interval and its number of patients.
Counted = tuple[Interval, int]


def mean_of(rows: Iterable[Row], column: str) -> Counted | None:
    """Mean of a column over the rows, one for each patient; None if no row has it."""
    values = _known([row.get(column) for row in rows])
    if not len(values):
        return None
    interval, count = _mean(values)
    least, most = VOLUME_COLUMNS[column].limits if column in VOLUME_COLUMNS else (-np.inf, np.inf)
    ends = (float(np.clip(end, least, most)) for end in (interval.lower, interval.upper))
    return Interval(interval.estimate, *ends), count


def paired_difference_of(first: Mapping[str, Row], second: Mapping[str, Row], column: str) -> Counted | None:
    """Mean of first - second over the common patients; None if there are none. Two infinite numbers count as
    equal."""
    pairs = [
        (_number(first[name].get(column)), _number(second[name].get(column)))
        for name in first
        if name in second
    ]
    differences = [0.0 if a == b else a - b for a, b in pairs]
    values = _known(differences)
    return _mean(values) if len(values) else None


def set_distance(metric: str, made: Mapping[str, Row], real: Mapping[str, Row]) -> Counted | None:
    """Fréchet distance between two sets of volumes in the features of SET_FEATURES[metric].

    Args:
        metric: key of SET_FEATURES.
        made, real: rows by patient; only common patients are used.

    Returns:
        None for fewer than LEAST_PATIENTS, or if a row lacks the features.
    """
    keys, names = SET_FEATURES[metric], [name for name in made if name in real]
    if len(names) < LEAST_PATIENTS:
        return None
    sides = []
    for rows in (real, made):
        if any(key not in rows[name] for name in names for key in keys):
            return None
        sides.append([(name, vector) for name in names for key in keys for vector in rows[name][key]])
    (real_names, a), (made_names, b) = (zip(*side, strict=True) for side in sides)
    return frechet_interval(np.array(a), np.array(b), real_names, made_names), len(names)


def entry(counted: Counted) -> dict[str, float | None]:
    """JSON-ready: estimate, lower, upper (None without an interval) and n."""
    interval, count = counted
    ends = {"lower": interval.lower, "upper": interval.upper}
    return {
        "estimate": interval.estimate,
        **{name: value if np.isfinite(value) else None for name, value in ends.items()},
        "n": count,
    }


def entries(named: Mapping[str, Counted | None]) -> dict[str, Any]:
    """``entry`` of each measured number."""
    return {name: entry(counted) for name, counted in named.items() if counted is not None}


def by_patient(rows: Sequence[Row]) -> dict[str, Row]:
    """One row for each patient, by name; of several (examinations) numbers are averaged and lists of features
    joined, since examinations of one patient are no independent observations."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["patient"], []).append(row)
    return {name: own[0] if len(own) == 1 else _merged(own) for name, own in groups.items()}


def _merged(rows: Sequence[Row]) -> Row:
    found: Row = {}
    for key in unique(key for row in rows for key in row):
        values = [row[key] for row in rows if row.get(key) is not None]
        if values and isinstance(values[0], list):
            found[key] = [item for value in values for item in value]
        elif values and isinstance(values[0], int | float):
            known = _known(values)
            found[key] = float(known.mean()) if len(known) else None
        else:
            found[key] = values[0] if values else None
    return found


def unique(values: Iterable[str]) -> list[str]:
    """Each value once, in the order of appearance."""
    return list(dict.fromkeys(values))


def _mean(values: np.ndarray) -> Counted:
    if not np.isfinite(values).all():
        return without_interval(float(values.mean())), len(values)
    return mean_interval(values), len(values)


def _known(values: Iterable[Any]) -> np.ndarray:
    numbers = np.array([_number(value) for value in values], dtype=np.float64)
    return numbers[~np.isnan(numbers)]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
