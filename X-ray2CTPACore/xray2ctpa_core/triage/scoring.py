"""The score of a result for the pathway, with the counts of patients on whom its model was evaluated."""

from collections.abc import Mapping
from typing import Any, Protocol

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.triage.likelihood import Counts, counts_in
from xray2ctpa_core.triage.workflow import Score
from xray2ctpa_core.wording import unreliable


class Model(Protocol):
    """The parts of a bundle's description that are used here."""

    @property
    def sha256(self) -> str:
        """Of the bundle's weights."""

    @property
    def is_demonstration(self) -> bool:
        """Whether its scores mean nothing for a patient."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Its measured numbers."""


def score_of(record: Mapping[str, Any], model: Model | None) -> Score:
    """The score of a result.

    Args:
        record: result.json.
        model: the bundle that has probably made it; None if none is available.
    """
    pe = record["pe"]
    return Score(
        pe["probability"],
        pe["threshold"],
        _counts(record, model),
        pe.get("second_opinion"),
        unreliable(pe),
    )


def _counts(record: Mapping[str, Any], model: Model | None) -> Counts | None:
    """The counts of the model that made the result; None for a demonstration, or another model."""
    if model is None or model.sha256 != record["bundle"]["sha256"] or model.is_demonstration:
        return None
    try:
        return counts_in(model.metrics)
    except InputError:
        return None  # treated as unknown
