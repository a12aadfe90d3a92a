"""Titles of the views, and the letters at their edges."""

from xray2ctpa_core import mrml

#: Letters at the left, right, upper and lower edge of a plane.
_EDGES = {"Axial": "RLAP", "Coronal": "RLSI", "Sagittal": "APSI"}
#: Slicer's colours of its three planes.
_COLOURS = {"Axial": "#f34a33", "Coronal": "#6eb04b", "Sagittal": "#edd54c"}
_OTHER_COLOUR = "#8c8c8c"


def described(name: str) -> dict[str, str]:
    """A view's title, plane ("" for none), colour, letters at its left, right, upper and lower edge, and its
    kind: "radiograph", "generated", "truth" or "difference"."""
    if name == mrml.RADIOGRAPH_VIEW:
        return _description("Radiograph", "", "RL", "radiograph")
    shown = mrml.TRUTH_VIEWS.get(name) or mrml.DIFFERENCE_VIEWS.get(name) or name
    if shown not in mrml.PLANE_VIEWS:
        return _description("Volume rendering", "", "", "generated")
    plane = mrml.PLANE_VIEWS[shown]
    if name in mrml.TRUTH_VIEWS:
        return _description(f"{plane}, true CTPA", plane, _EDGES[plane], "truth")
    if name in mrml.DIFFERENCE_VIEWS:
        return _description(f"{plane}, generated - true", plane, _EDGES[plane], "difference")
    return _description(f"{plane}, generated", plane, _EDGES[plane], "generated")


def _description(title: str, plane: str, letters: str, kind: str) -> dict[str, str]:
    colour = _COLOURS.get(plane, _OTHER_COLOUR)
    return {"title": title, "plane": plane, "letters": letters, "kind": kind, "colour": colour}
