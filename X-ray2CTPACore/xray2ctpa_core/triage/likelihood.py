"""The effect of a positive or negative score: likelihood ratios with intervals, and Bayes' rule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xray2ctpa_core.errors import InputError

#: Optional entry of a bundle's metrics: ``Counts`` on real patients outside its training.
PE_COUNTS = "PE counts at the operating point"
#: Standard deviations on either side of a 95 % interval.
Z_95 = 1.959963985


@dataclass(frozen=True)
class Ratio:
    """A likelihood ratio with its 95 % interval."""

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Counts:
    """A classifier's patients at its operating point.

    Attributes:
        true_positive, false_negative: patients with PE, at or above the threshold and below it.
        false_positive, true_negative: the same of patients without PE.
    """

    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int

    def __post_init__(self) -> None:
        if min(self.true_positive, self.false_negative, self.false_positive, self.true_negative) < 0:
            raise InputError(f"Expected counts of at least 0, got {self}.")
        if not self.diseased or not self.healthy:
            raise InputError("A likelihood ratio needs patients with and without PE, got one kind only.")

    @property
    def diseased(self) -> int:
        """Patients with PE."""
        return self.true_positive + self.false_negative

    @property
    def healthy(self) -> int:
        """Patients without PE."""
        return self.false_positive + self.true_negative

    def ratio(self, positive: bool) -> Ratio:
        """LR+ or LR-, with the log method's interval (Simel et al., J Clin Epidemiol 1991;44:763).

        If a cell is empty, half a patient is added to every cell (Haldane's correction).
        """
        cells = (self.true_positive, self.false_negative, self.false_positive, self.true_negative)
        add = 0.5 if 0 in cells else 0.0
        hit, miss, alarm, quiet = (cell + add for cell in cells)
        with_pe, without = (hit, alarm) if positive else (miss, quiet)
        share, other = with_pe / (hit + miss), without / (alarm + quiet)
        deviation = math.sqrt((1 - share) / with_pe + (1 - other) / without)
        middle = math.log(share / other)
        ends = (math.exp(middle + sign * Z_95 * deviation) for sign in (-1, 1))
        return Ratio(share / other, *ends)


def counts_in(metrics: Mapping[str, Any]) -> Counts | None:
    """The counts in a bundle's metrics; None if there are none.

    Raises:
        InputError: they are incomplete, or of one class only.
    """
    entry = metrics.get(PE_COUNTS)
    if entry is None:
        return None
    try:
        return Counts(**{name: int(value) for name, value in entry.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"Expected four counts in the metrics' {PE_COUNTS!r}, got {entry!r}.") from error


def post_test(pre_test: float, ratio: float) -> float:
    """Probability after a result with a likelihood ratio, by Bayes' rule in odds.

    Args:
        pre_test: before, 0..1, both excluded.
        ratio: at least 0.
    """
    if not 0 < pre_test < 1 or ratio < 0:
        raise InputError(f"Expected a probability between 0 and 1 and a ratio >= 0, got {pre_test}, {ratio}.")
    odds = pre_test / (1 - pre_test) * ratio
    return odds / (1 + odds)
