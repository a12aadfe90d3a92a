"""The triage pathway on the page: makes a case of a visitor's entries, and the content of its drawing.

Entries are not stored.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.pipelines.bundle import BundleInfo, read_bundle_json
from xray2ctpa_core.pipelines.loading import embedded_bundles, resolve_bundle
from xray2ctpa_core.triage.criteria import PERC, WELLS, Criterion
from xray2ctpa_core.triage.rules import FEU_PER_UNIT, d_dimer_feu, wells_score
from xray2ctpa_core.triage.scoring import score_of
from xray2ctpa_core.triage.workflow import (
    ARROWS,
    BESIDE,
    BOXES,
    TRIAGE_NOTICE,
    Case,
    beside,
    box_texts,
    way_of,
)

#: Greatest age in years and greatest D-dimer, in any unit, that a visitor may enter.
_LIMITS = {"age": 120.0, "d_dimer": 1e5}


def pathway(record: Mapping[str, Any], entered: Mapping[str, Any], bundle: str) -> dict[str, Any]:
    """The content of the page's drawing for a case.

    Args:
        record: result.json of the shown result.
        entered: wells and perc (names of items), gestalt_low, unstable, age, d_dimer and unit; all optional.
        bundle: name or folder of the page's model.

    Raises:
        InputError: an unknown item or unit, or a wrong number.
    """
    case = _case(entered)
    way, points = way_of(case), wells_score(case.wells)
    steps = set(itertools.pairwise(way.boxes))
    score = score_of(record, _model_of(record, bundle))
    return {
        "notice": TRIAGE_NOTICE,
        "form": {"wells": _form(WELLS), "perc": _form(PERC), "units": list(FEU_PER_UNIT)},
        "headline": f"Wells {points:g}. Next: {way.step}.",
        "boxes": [
            {"name": name, "text": text, "column": column, "row": row, "on_way": name in way.boxes}
            for name, text in box_texts(score).items()
            for _text, column, row in [BOXES[name]]
        ],
        "arrows": [
            {"from": first, "to": second, "text": text, "on_way": (first, second) in steps}
            for first, second, text in ARROWS
        ],
        "dotted": list(BESIDE),
        "reasons": list(way.reasons),
        "beside": list(beside(case, score)),
    }


def _case(entered: Mapping[str, Any]) -> Case:
    unit = entered.get("unit", next(iter(FEU_PER_UNIT)))
    age, dimer = _number(entered, "age"), _number(entered, "d_dimer")
    if not isinstance(unit, str):
        raise InputError(f"Expected one of {', '.join(FEU_PER_UNIT)}, got {unit!r}.")
    return Case(
        wells=_names(entered, "wells"),
        perc=_names(entered, "perc"),
        gestalt_low=entered.get("gestalt_low") is True,
        age=None if age is None else round(age),
        d_dimer=None if dimer is None else d_dimer_feu(dimer, unit),
        unstable=entered.get("unstable") is True,
    )


def _names(entered: Mapping[str, Any], key: str) -> list[str]:
    """The items under ``key``, each once; the rules check whether they exist."""
    names = entered.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"Expected a list of items as {key}, got {names!r}.")
    return sorted(set(names))


def _number(entered: Mapping[str, Any], key: str) -> float | None:
    value, most = entered.get(key), _LIMITS[key]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise InputError(f"Expected {key} from 0 to {most:g}, got {value!r}.")
    return float(value)


def _form(criteria: Iterable[Criterion]) -> list[dict[str, Any]]:
    return [{"name": c.name, "text": c.text, "points": c.points} for c in criteria]


def _model_of(record: Mapping[str, Any], bundle: str) -> BundleInfo | None:
    """The model of a result, if it is the page's own or came with the core."""
    wanted = record["bundle"]
    for source in (bundle, *(name for name in embedded_bundles() if name == wanted["name"])):
        try:
            info = read_bundle_json(resolve_bundle(source))
        except BundleError:
            continue  # the model was removed, the result was not
        if info.sha256 == wanted["sha256"]:
            return info
    return None
