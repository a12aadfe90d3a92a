"""CPU and GPU of one run in one table, with the cost of a thousand radiographs."""

from collections.abc import Callable, Mapping
from typing import Any

from xray2ctpa_core.benchmark.targets import NOT_MEASURED
from xray2ctpa_core.benchmark.warm import BESIDE
from xray2ctpa_core.evaluation.markdown import table

COLUMNS = {"cpu": "CPU", "cuda": "GPU"}
_THOUSAND, _HOUR = 1000, 3600.0

#: Measurements on one device: the parts paper_scale, end_to_end and warm; {} or None for one that is missing.
Found = Mapping[str, Any]


def side_by_side(results: Mapping[str, Any]) -> str:
    """The content of bench.json as a table with a column for each device."""
    found = {device: _of(results, device) for device in COLUMNS}
    sides = [name for each in found.values() for name in each["paper_scale"].get("sides", {})]
    rows = [(f"pass of {name}, ms (of its roofline)", _pass(name)) for name in dict.fromkeys(sides)]
    rows += [
        ("papers' size, tiny decoder, s (the fastest side)", _fastest_volume),
        ("the command from start to end, s", lambda f: _median(f["end_to_end"], "total_s")),
        ("a further radiograph, s", lambda f: _median(f["warm"], "one_s")),
        ("several samples of it at once, s", lambda f: _several(f["warm"])),
        (f"of it {', '.join(BESIDE)}", lambda f: _shares(f["warm"])),
        (
            "1,000 radiographs, without reading and writing, hours",
            lambda f: _thousand(f["warm"], "one_s", 1.0),
        ),
        (
            "the same by one command, all included, hours",
            lambda f: _thousand(f["end_to_end"], "further_s", 1.0),
        ),
        ("the same, a command each, hours", lambda f: _thousand(f["end_to_end"], "total_s", 1.0)),
    ]
    prices = results.get("prices") or {}
    if prices:
        rows.append(("1,000 radiographs by one command, at the prices given", lambda f: _priced(f, prices)))
    lines = [[label, *(row(each) for each in found.values())] for label, row in rows]
    return table(["", *COLUMNS.values()], lines)


def _of(results: Mapping[str, Any], device: str) -> Found:
    named: dict[str, Mapping[str, Any]] = {
        part: next((each for each in results.get(part, []) if each["device"] == device), {})
        for part in ("end_to_end", "warm")
    }
    return {"device": device, "paper_scale": results.get("paper_scale", {}).get(device, {}), **named}


def _pass(name: str) -> Callable[[Found], str]:
    def shown(found: Found) -> str:
        side = found["paper_scale"].get("sides", {}).get(name)
        if side is None:
            return NOT_MEASURED if not found["paper_scale"] else "-"
        if side.get("not_captured"):
            return f"not captured: {side['not_captured']}"
        return f"{1000 * side['pass_s']['median']:.1f} ({side['share_of_floor']:.0%})"

    return shown


def _fastest_volume(found: Found) -> str:
    volumes = {
        name: side["tiny_volume_s"]
        for name, side in found["paper_scale"].get("sides", {}).items()
        if "tiny_volume_s" in side
    }
    if not volumes:
        return NOT_MEASURED
    fastest = min(volumes, key=lambda name: volumes[name])
    return f"~{volumes[fastest]:.2f} ({fastest})"


def _median(part: Mapping[str, Any], key: str) -> str:
    return f"{part[key]['median']:.2f}" if part else NOT_MEASURED


def _several(warm: Mapping[str, Any]) -> str:
    if not warm:
        return NOT_MEASURED
    share = warm["of_one_by_one"]["median"]
    return f"{warm['several_s']['median']:.2f} ({warm['samples']} samples; {share:.2f} of one by one)"


def _shares(warm: Mapping[str, Any]) -> str:
    return ", ".join(f"{warm['beside'][name]:.0%}" for name in BESIDE) if warm else NOT_MEASURED


def _thousand(part: Mapping[str, Any], key: str, price: float) -> str:
    """Cost of a thousand radiographs at so many seconds each and a price per hour."""
    return f"{part[key]['median'] * _THOUSAND / _HOUR * price:.2f}" if part else NOT_MEASURED


def _priced(found: Found, prices: Mapping[str, float]) -> str:
    price = prices.get(found["device"])
    return "no price given" if price is None else _thousand(found["end_to_end"], "further_s", price)
