"""The words and numbers of a result on the page, from its result.json."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.record import record_rows, score_sentences, sentences
from xray2ctpa_core.wording import unreliable


def words_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Scores, the reason why they mean nothing (None: there is none), further sentences, and every row.

    Raises:
        KeyError, TypeError, ValueError: as in ``garbled_as_input_error``.
    """
    scores, reason = score_sentences(record), unreliable(record["pe"])
    words = {
        "unreliable": reason,
        "scores": scores,
        "sentences": [line for line in sentences(record) if line not in (*scores, reason)],
        "pe": {"per_sample": [], **record["pe"]},
        "rows": record_rows(record),
        "notice": record["notice"],
    }
    json.dumps(words, allow_nan=False)  # browsers read no NaN
    return words


@contextmanager
def garbled_as_input_error(folder: Path) -> Iterator[None]:
    """Within it, what a result.json lacks or has in another form is an InputError that names ``folder``."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"Expected {folder / 'result.json'} as `xray2ctpa generate` writes it, got one that does not fit "
            f"({type(error).__name__}: {error}).",
            "Generate the result again with this version.",
        ) from error
