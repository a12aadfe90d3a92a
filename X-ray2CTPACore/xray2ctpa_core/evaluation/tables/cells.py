"""The content of a table's cell, as text and as values for a CSV file."""

from dataclasses import dataclass
from math import isnan

from xray2ctpa_core.metrics.intervals import Interval

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Comparison:
    """One arm compared with the table's reference on the common patients.

    Attributes:
        n: patients.
        difference: arm minus reference with its interval; None if the test has none.
        p: two-sided; None if the comparison is only an interval.
        text: counts, shown before p.
    """

    n: int
    difference: Interval | None
    p: float | None
    text: str = ""


@dataclass(frozen=True)
class Partial:
    """A mean over fewer patients than the row has, because the others had nothing to measure."""

    interval: Interval
    n: int


#: A number with or without its interval, a comparison, or a text.
Cell = Interval | Partial | float | Comparison | str


def cell_text(cell: Cell, digits: int) -> str:
    """The cell for Markdown and figures."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Interval):
        return cell.text(digits)
    if isinstance(cell, Partial):
        return f"{cell.interval.text(digits)}, n = {cell.n}"
    if isinstance(cell, float):
        return f"{cell:.{digits}f}"
    parts = [cell.text] if cell.text else []
    if cell.difference is not None:
        parts.append(cell.difference.text(digits, signed=True))
    if cell.p is not None:
        parts.append("p < 0.001" if cell.p < 0.001 else f"p = {cell.p:.3f}")
    return ", ".join(parts)


def cell_values(cell: Cell) -> dict[str, str]:
    """The cell for a CSV file: value by the suffix of its column; "" is the number itself."""
    if isinstance(cell, str):
        return {"": cell}
    if isinstance(cell, float):
        return {"": f"{cell:.6g}"}
    if isinstance(cell, Interval):
        return _interval_values(cell)
    if isinstance(cell, Partial):
        return _interval_values(cell.interval) | {"n": str(cell.n)}
    values = {"": cell.text} if cell.difference is None else _interval_values(cell.difference)
    return values | {"n": str(cell.n)} | ({} if cell.p is None else {"p": f"{cell.p:.6g}"})


def _interval_values(interval: Interval) -> dict[str, str]:
    ends = {"": interval.estimate, "lower": interval.lower, "upper": interval.upper}
    return {suffix: "" if isnan(value) else f"{value:.6g}" for suffix, value in ends.items()}
