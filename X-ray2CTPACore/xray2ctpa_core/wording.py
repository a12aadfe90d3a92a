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
    # As many decimals, from two, as tell the two apart.
    texts = [(f"{probability:.{digits}f}", f"{threshold:.{digits}f}") for digits in (2, 3, 4)]
    score, point = next((pair for pair in texts if pair[0] != pair[1]), texts[0])
    return f"Model's PE score {score}{kind}, {side} its operating point {point}"


def counted(number: int, noun: str) -> str:
    """ "1 step", "2 steps"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
