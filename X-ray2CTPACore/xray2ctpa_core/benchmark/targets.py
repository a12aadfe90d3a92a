"""The project's targets beside what was measured, and whether they are met."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xray2ctpa_core.evaluation.markdown import table

NOT_MEASURED = "not measured"
COLUMNS = ("target", "at most", "measured", "met")
#: Samples of the target for several at once.
_SEVERAL = 8
_HALF = ("bf16", "fp16")

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        what: with its unit, if it has one.
        most: its limit, which counts as met.
        found: the measured value; None where there is none.
    """

    what: str
    most: float
    found: Callable[[Results], float | None]


def targets_table(results: Results) -> str:
    """The targets beside the content of bench.json."""
    lines = []
    for target in TARGETS:
        value = target.found(results)
        measured = NOT_MEASURED if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        met = "-" if value is None else "yes" if value <= target.most else "no"
        lines.append([target.what, f"{target.most:g}", measured, met])
    return table(list(COLUMNS), lines)


def _pass_ratio(side: str, of: str) -> Callable[[Results], float | None]:
    def found(results: Results) -> float | None:
        ratio = _sides(results, "cpu").get(side, {}).get(of)
        return ratio and ratio["median"]

    return found


def _part(part: str, device: str, key: str) -> Callable[[Results], float | None]:
    """The median of a measurement, or the number that it is."""

    def found(results: Results) -> float | None:
        value = _of(results, part, device).get(key)
        return value["median"] if isinstance(value, Mapping) else value

    return found


def _least(key: str, of: Iterable[str] = ()) -> Callable[[Results], float | None]:
    """The least median of a GPU's sides that are ours and of one of these precisions, or of any; passes that
    should have been captured and were not do not count."""

    def found(results: Results) -> float | None:
        values = [
            side[key]["median"] if isinstance(side[key], Mapping) else side[key]
            for name, side in _sides(results, "cuda").items()
            if name.startswith("ours") and key in side and not side.get("not_captured")
            if not of or any(precision in name for precision in of)
        ]
        return min(values, default=None)

    return found


def _in_ms(found: Callable[[Results], float | None]) -> Callable[[Results], float | None]:
    def milliseconds(results: Results) -> float | None:
        seconds = found(results)
        return None if seconds is None else 1000 * seconds

    return milliseconds


def _several(results: Results) -> float | None:
    found = _of(results, "warm", "cuda")
    return found["several_s"]["median"] if found.get("samples") == _SEVERAL else None


def _sides(results: Results, device: str) -> Mapping[str, Any]:
    return results.get("paper_scale", {}).get(device, {}).get("sides", {})


def _of(results: Results, part: str, device: str) -> Mapping[str, Any]:
    return next((each for each in results.get(part, []) if each["device"] == device), {})


TARGETS = (
    Target("CPU: a pass in fp32, of the released structure's", 0.25, _pass_ratio("ours fp32", "pass_ratio")),
    Target("the same in processor time", 0.25, _pass_ratio("ours fp32", "processor_ratio")),
    Target("CPU: a pass in bf16, of the released structure's", 0.12, _pass_ratio("ours bf16", "pass_ratio")),
    Target("the same in processor time", 0.12, _pass_ratio("ours bf16", "processor_ratio")),
    Target("CPU: the command from start to end, s", 15, _part("end_to_end", "cpu", "total_s")),
    Target("its processor time, s", 15, _part("end_to_end", "cpu", "processor_s")),
    Target("CPU: its peak memory, MB", 1200, _part("end_to_end", "cpu", "peak_memory_mb")),
    Target(
        "CPU: a second radiograph by the resident worker, of the first",
        0.5,
        _part("end_to_end", "cpu", "second_of_first"),
    ),
    Target("CPU: several samples at once, of one by one", 1, _part("warm", "cpu", "of_one_by_one")),
    Target("the same in processor time", 1, _part("warm", "cpu", "processor_of_one_by_one")),
    Target("GPU: a pass in half precision, batch 1, ms", 8, _in_ms(_least("pass_s", _HALF))),
    Target("GPU: a volume of the papers' size by the tiny decoder, s", 0.4, _least("tiny_volume_s")),
    Target("GPU: a further radiograph, s", 0.25, _part("warm", "cuda", "one_s")),
    Target(f"GPU: {_SEVERAL} samples of it, s", 0.6, _several),
    Target("GPU: the command from start to end, s", 5, _part("end_to_end", "cuda", "total_s")),
)
