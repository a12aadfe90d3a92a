"""Sentences for people that more than one part of the project says, once."""

import re
from collections.abc import Mapping
from typing import Any

#: Characters that end a line, a column or a string where a file's name holds them.
_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

#: Said of a radiograph whose greys were turned back before it was read.
INVERTED_RADIOGRAPH = "The radiograph was inverted (bright air); it was turned back."


#: Said in the place of a score by a bundle without a classifier.
NO_SCORE = "No PE score: this model has no PE classifier"


def score_sentence(probability: float | None, threshold: float, calibrated: bool | None = None) -> str:
    """The PE score beside its operating point, without a full stop, so that a place can go on from it.

    Args:
        probability: the classifier's score, 0..1; None where there is no classifier.
        threshold: its operating point, 0..1; a score that equals it is at it.
        calibrated: said in brackets after the score; None says nothing about it.
    """
    if probability is None:
        return NO_SCORE
    side = "at or above" if probability >= threshold else "below"
    kind = {None: "", True: " (calibrated)", False: " (not calibrated)"}[calibrated]
    score, point = apart(probability, threshold)
    return f"Model's PE score {score}{kind}, {side} its operating point {point}"


def apart(probability: float, threshold: float) -> tuple[str, str]:
    """Both with as many decimals, from two, as tell them apart."""
    texts = [(f"{probability:.{digits}f}", f"{threshold:.{digits}f}") for digits in (2, 3, 4)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[0])


def scored(pe: Mapping[str, Any]) -> str:
    """The PE score of result.json (``pe``) in a sentence, and a second one where it is unreliable."""
    score, reason = score_sentence(pe["probability"], pe["threshold"]), unreliable(pe)
    return f"{score}. {reason}" if reason else f"{score}."


def unreliable(pe: Mapping[str, Any]) -> str | None:
    """Why the scores of result.json (``pe``) mean nothing for its radiograph; None where there are none or
    nothing speaks against them."""
    return pe.get("unreliable") if pe["probability"] is not None or "second_opinion" in pe else None


def one_line(text: object) -> str:
    """``text`` on one line: a line break, tab or other control character in a name as its escape, ``\\n``."""
    return _BREAKING.sub(lambda found: repr(found[0])[1:-1], str(text))


def counted(number: int, noun: str) -> str:
    """ "1 step", "2 steps"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def second_opinion_sentence(opinion: Mapping[str, Any]) -> str:
    """A second opinion on PE, and what it rests on.

    Args:
        opinion: of result.json, pe.second_opinion.
    """
    side = "at or above" if opinion["positive"] else "below"
    kind = "calibrated" if opinion["calibrated"] else "not calibrated"
    score, point = apart(opinion["probability"], opinion["threshold"])
    said = f"Second opinion {score} ({kind}), {side} its operating point {point}."
    return f"{said} It rests on the {opinion['rests_on']}."
