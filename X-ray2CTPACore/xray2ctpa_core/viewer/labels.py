"""What is written into a view: its title, letters at its edges, and SYNTHETIC on what was generated."""

from typing import Any

from xray2ctpa_core import mrml

#: What stands at the left, right, upper and lower edge of a plane.
_EDGES = {"Axial": "RLAP", "Coronal": "RLSI", "Sagittal": "APSI"}
#: Where, as parts of the view's width and height from its lower left.
_EDGE_PLACES = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.99), (0.5, 0.01))
_TITLE_PLACE = (0.01, 0.99)
_TITLE_COLOUR = (0.91, 0.93, 0.95)
_TITLE_POINTS, _LETTER_POINTS = 14, 16


def orientation(name: str) -> str:
    """The plane that a slice view of a result or of a comparison shows."""
    plane = mrml.TRUTH_VIEWS.get(name) or mrml.DIFFERENCE_VIEWS.get(name) or name
    return mrml.PLANE_VIEWS[plane]


def annotate(renderer: Any, name: str, is_rendering: bool) -> None:
    """Adds the words to a view.

    Args:
        renderer: the view's uppermost.
        name: the view's.
        is_rendering: whether it is the volume rendering, which has no edges to name.
    """
    if name == mrml.FILM_VIEW:
        title, letters = "input X-ray", "RL"
    elif is_rendering:
        title, letters = "volume rendering", ""
    else:
        title, letters = _title(name), _EDGES[orientation(name)]
    _write(renderer, title, _TITLE_COLOUR, _TITLE_PLACE, _TITLE_POINTS)
    for letter, place in zip(letters, _EDGE_PLACES, strict=False):
        _write(renderer, letter, mrml.ANNOTATION_COLOUR, place, _LETTER_POINTS)
    if name != mrml.FILM_VIEW and name not in mrml.TRUTH_VIEWS:
        renderer.AddViewProp(mrml.synthetic_annotation())


def _title(name: str) -> str:
    kind = "generated"
    if name in mrml.TRUTH_VIEWS:
        kind = "true CTPA"
    elif name in mrml.DIFFERENCE_VIEWS:
        kind = "generated - true"
    return f"{orientation(name).lower()}, {kind}"


def _write(
    renderer: Any, text: str, colour: tuple[float, float, float], place: tuple[float, float], points: int
) -> None:
    actor = mrml.corner_text(text, colour)
    style = actor.GetTextProperty()
    style.SetFontSize(points)
    style.SetJustification(_towards(place[0]))
    style.SetVerticalJustification(_towards(place[1]))
    actor.GetPositionCoordinate().SetValue(*place)
    renderer.AddViewProp(actor)


def _towards(part: float) -> int:
    """VTK's number for text that lies inside its view: 0 left or bottom, 1 centred, 2 right or top."""
    return 1 if part == 0.5 else 2 * (part > 0.5)
