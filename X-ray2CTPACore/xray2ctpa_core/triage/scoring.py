"""The score of a result as the pathway shows it, with the patients who stand behind its model."""

from collections.abc import Mapping
from typing import Any, Protocol

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.triage.likelihood import Counts, counts_in
from xray2ctpa_core.triage.workflow import Score


class Model(Protocol):
    """What a bundle says of itself, as far as it counts here."""

    @property
    def sha256(self) -> str:
        """Of the bundle's weights."""

    @property
    def is_demonstration(self) -> bool:
        """Whether its scores mean nothing for a patient."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What was measured of it."""


def score_of(record: Mapping[str, Any], model: Model | None) -> Score:
    """The score of a result.

    Args:
        record: result.json.
        model: the bundle that is thought to have made it; None where there is none at hand.
    """
    pe = record["pe"]
    return Score(pe["probability"], pe["threshold"], _counts(record, model), pe.get("second_opinion"))


def _counts(record: Mapping[str, Any], model: Model | None) -> Counts | None:
    """The patients behind the model that made the result; None for a demonstration, or another model."""
    if model is None or model.sha256 != record["bundle"]["sha256"] or model.is_demonstration:
        return None
    try:
        return counts_in(model.metrics)
    except InputError:
        return None  # as if none were known
