"""The numbers of a reader study as Markdown."""

from collections.abc import Mapping
from typing import Any

_RATES = ("accuracy", "sensitivity", "specificity", "auroc")


def markdown(numbers: Mapping[str, Any]) -> str:
    """One table for each phase, then the comparison with and without the generated CTPA, all readers
    together, and their agreement."""
    lines = [f"# {numbers['title']}", "", "Estimates with 95 % intervals (Wilson; AUROC: DeLong).", ""]
    for phase, readers in numbers["phases"].items():
        lines += [f"## {phase}", "", *_phase_table(readers), ""]
    lines += [
        "## PE without and with the generated CTPA (exact McNemar)",
        "",
        *_with_and_without(numbers),
        "",
    ]
    lines += _multi_reader(numbers["multi_reader"])
    lines += ["## Agreement (Cohen's kappa; rating scales linearly weighted)", "", *_agreement(numbers)]
    return "\n".join(lines)


def _phase_table(readers: Mapping[str, Any]) -> list[str]:
    if not readers:
        return ["Not read."]
    scales = sorted(
        {name for values in readers.values() for name in values if "counts" in _dict(values[name])}
    )
    rates = [name for name in _RATES if any(name in values for values in readers.values())]
    rows = [
        [reader, str(values["n"]), f"{values['median_seconds']:.0f}"]
        + [_interval(values.get(name)) for name in rates]
        + [f"{values[name]['mean']:.2f}" for name in scales]
        for reader, values in readers.items()
    ]
    return _table(["reader", "n", "median s", *rates, *(f"mean {name}" for name in scales)], rows)


def _with_and_without(numbers: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            entry["reader"],
            str(entry["n"]),
            str(entry["right_without_only"]),
            str(entry["right_with_only"]),
            f"{entry['exact_p']:.4f}",
            f"{entry['uncorrected_p']:.4f}",
        ]
        for entry in numbers["with_and_without"]
        if entry["n"]
    ]
    rows += [[p["reader"], "20", "-", "-", "-", f"{p['p']:.3f}"] for p in numbers["paper"]]
    head = ["reader", "n", "right without only", "right with only", "exact p", "uncorrected p"]
    paper = [
        f"{p['reader']}: accuracy {p['accuracy']:.2f}, sensitivity {p['sensitivity']:.2f}, "
        f"specificity {p['specificity']:.2f} with the generated CTPA."
        for p in numbers["paper"]
    ]
    return [*_table(head, rows), "", "X-ray2CTPA, Table 6: " + " ".join(paper)]


def _multi_reader(result: Mapping[str, Any] | None) -> list[str]:
    if result is None:
        return []
    return [
        "## Readers together (Obuchowski and Rockette; readers and cases random)",
        "",
        f"{result['readers']} readers, {result['n']} cases: mean AUROC {result['auroc_without']:.3f} "
        f"without, {result['auroc_with']:.3f} with; difference {_interval(result['difference'])}, "
        f"p {result['p']:.4f}.",
        "",
    ]


def _agreement(numbers: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            entry["phase"],
            entry["question"],
            " and ".join(dict.fromkeys(entry["readers"])),
            str(entry["n"]),
            "-" if entry["kappa"] is None else f"{entry['kappa']:.2f}",
        ]
        for entry in numbers["agreement"]
    ]
    return (
        _table(["phase", "question", "readers", "n", "kappa"], rows) if rows else ["One reader, no repeats."]
    )


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _interval(values: Mapping[str, float | None] | None) -> str:
    if values is None or values["estimate"] is None:
        return "-"
    return f"{values['estimate']:.3f} [{values['lower']:.3f}, {values['upper']:.3f}]"


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
