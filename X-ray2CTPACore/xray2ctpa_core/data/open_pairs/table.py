"""The cohort as a file: a row a pair, and beside it the rules that made it and a hash of both."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

from xray2ctpa_core.config import from_mapping, write_json, write_text_atomically
from xray2ctpa_core.data.open_pairs.pairs import Pair
from xray2ctpa_core.data.open_pairs.rules import RULES_VERSION, Rules
from xray2ctpa_core.data.open_pairs.series import Series
from xray2ctpa_core.data.sources.table import Row, csv_text, read_table
from xray2ctpa_core.errors import ConfigError, InputError

TABLE_FILE, RULES_FILE = "pairs.csv", "rules.json"
_HINT = "Make it anew: open_pairs.py select."
_SERIES = (
    "uid", "study", "date", "study_description", "description", "body_part", "images", "megabytes", "licence",
    "doi",
)  # fmt: skip
COLUMNS = (
    "id", "collection", "patient", "split", "days", "angiography",
    *(f"ct_{name}" for name in _SERIES), "radiograph_modality",
    *(f"radiograph_{name}" for name in _SERIES), "other_radiographs",
)  # fmt: skip


def write_pairs(folder: Path, pairs: Sequence[Pair], rules: Rules, index: str) -> str:
    """Writes TABLE_FILE and RULES_FILE.

    Args:
        folder: new or not.
        pairs: in order.
        rules: that made them.
        index: version of the index they were selected from.

    Returns:
        The SHA-256 of the table, which RULES_FILE holds: the split is fixed by it.
    """
    text = csv_text(COLUMNS, [_cells(pair) for pair in pairs])
    digest = hashlib.sha256(text.encode()).hexdigest()
    record = {
        "rules_version": RULES_VERSION,
        "rules": asdict(rules),
        "index": index,
        "pairs": len(pairs),
        "sha256": digest,
    }
    write_text_atomically(folder / TABLE_FILE, text)
    write_json(folder / RULES_FILE, record)
    return digest


def read_pairs(folder: Path) -> list[Pair]:
    """The pairs that `write_pairs` wrote.

    Raises:
        InputError: files that are missing or damaged, or a table that was changed since.
    """
    path = folder / TABLE_FILE
    rows = read_table(path, COLUMNS)
    try:
        record = json.loads((folder / RULES_FILE).read_text(encoding="utf-8"))
        from_mapping(Rules, record["rules"])
        expected = record["sha256"]
    except (OSError, ValueError, LookupError, TypeError, ConfigError) as error:
        raise InputError(
            f"Expected the rules of the selection in {folder / RULES_FILE}, got: {error}.", _HINT
        ) from error
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise InputError(f"{path} was changed after it was selected: its digest differs.", _HINT)
    return [_pair(row) for row in rows]


def _cells(pair: Pair) -> list[str]:
    others = json.dumps([_series_cells(one) | {"modality": one.modality} for one in pair.others])
    return [
        pair.id,
        pair.ct.collection,
        pair.ct.patient,
        pair.split,
        "" if pair.days is None else str(pair.days),
        str(int(pair.angiography)),
        *_series_cells(pair.ct).values(),
        pair.radiograph.modality,
        *_series_cells(pair.radiograph).values(),
        others if pair.others else "",
    ]


def _series_cells(series: Series) -> dict[str, str]:
    values = {name: getattr(series, name) for name in _SERIES}
    values["date"] = "" if series.date is None else series.date.isoformat()
    values["megabytes"] = f"{series.megabytes:.2f}"
    return {name: str(value) for name, value in values.items()}


def _pair(row: Row) -> Pair:
    def series(cells: dict[str, str], modality: str) -> Series:
        try:
            return Series(
                collection=row.text("collection"),
                patient=row.text("patient"),
                modality=modality,
                study=cells["study"],
                uid=cells["uid"],
                date=date.fromisoformat(cells["date"]) if cells["date"] else None,
                study_description=cells["study_description"],
                description=cells["description"],
                body_part=cells["body_part"],
                images=int(cells["images"]),
                megabytes=float(cells["megabytes"]),
                licence=cells["licence"],
                doi=cells["doi"],
            )
        except (ValueError, LookupError) as error:
            raise InputError(f"Expected a series in {row.where}, got: {error}.", _HINT) from error

    def prefixed(prefix: str) -> dict[str, str]:
        return {name: row.cells[f"{prefix}_{name}"] for name in _SERIES}

    others = json.loads(row.cells["other_radiographs"] or "[]")
    return Pair(
        series(prefixed("ct"), "CT"),
        series(prefixed("radiograph"), row.text("radiograph_modality")),
        tuple(series(one, one["modality"]) for one in others),
        int(row.cells["days"]) if row.cells["days"] else None,
        row.cells["angiography"] == "1",
        row.text("split"),
    )
