"""Sentences for people that more than one part of the project says, once."""

#: Said of a film whose greys were turned back before it was read.
INVERTED_FILM = "The film was inverted (bright air); it was turned back."


def score_sentence(probability: float, threshold: float, calibrated: bool | None = None) -> str:
    """The PE score beside its operating point, without a full stop, so that a place can go on from it.

    Args:
        probability: the classifier's score, 0..1.
        threshold: its operating point, 0..1; a score that equals it is at it.
        calibrated: said in brackets after the score; None says nothing about it.
    """
    side = "at or above" if probability >= threshold else "below"
    kind = {None: "", True: " (calibrated)", False: " (not calibrated)"}[calibrated]
    return f"Model's PE score {probability:.2f}{kind}, {side} its operating point {threshold:.2f}"


def counted(number: int, noun: str) -> str:
    """ "1 step", "2 steps"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
