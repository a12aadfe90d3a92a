"""A visitor's display settings, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml import OVERLAYS, WINDOWS
from xray2ctpa_core.viewer.sight import Sight

MODES = ("result", "compare")
#: Projection of the voxels of a thick slab.
SLABS = ("maximum", "mean", "minimum")
#: Colouring of the rendering; "MIP" is the greatest HU along each ray, in the planes' window.
RENDERINGS = ("vessels and bone", "bone", "lung", "MIP")


@dataclass(frozen=True)
class Display:
    """Display settings of a result.

    Attributes:
        window: name of a window in HU, of mrml.WINDOWS; "" if the visitor has set level and width.
        level: HU in the middle of the greys.
        width: HU from black to white.
        overlay: overlay of the planes or the radiograph, of OVERLAYS; "" for none.
        opacity: of the overlay, 0..1.
        threshold: Grad-CAM below it is not shown, 0..1.
        slab: of SLABS, used if ``slab_mm`` is more than one slice.
        slab_mm: thickness of the planes; 0 is one slice.
        rendering: of RENDERINGS.
        mode: of MODES; "compare" needs a true CTPA.
    """

    window: str = "CTPA"
    level: float = WINDOWS["CTPA"][0]
    width: float = WINDOWS["CTPA"][1]
    overlay: str = "gradcam"
    opacity: float = 0.5
    threshold: float = 0.25
    slab: str = "maximum"
    slab_mm: float = 0.0
    rendering: str = RENDERINGS[0]
    mode: str = "result"


@dataclass(frozen=True)
class Look:
    """What a visitor has chosen to see of a result.

    Attributes:
        display: his settings.
        position: RAS in mm where the planes meet.
        sights: zoom and pan by plane.
    """

    display: Display
    position: tuple[float, ...]
    sights: Mapping[str, Sight]


CHOICES = {
    "window": tuple(WINDOWS),
    "overlay": OVERLAYS,
    "slab": SLABS,
    "rendering": RENDERINGS,
    "mode": MODES,
}
#: Smallest and largest value of each number.
RANGES = {
    "opacity": (0.0, 1.0),
    "threshold": (0.0, 1.0),
    "level": (-1200.0, 3000.0),
    "width": (1.0, 4000.0),
    "slab_mm": (0.0, 60.0),
}


def changed(display: Display, wishes: Mapping[str, Any]) -> Display:
    """``display`` with the fields in ``wishes``; raises InputError for another field or value.

    A named window sets level and width; setting level or width clears the name.
    """
    for name, value in wishes.items():
        if name in CHOICES:
            if value not in CHOICES[name]:
                raise InputError(f"Expected {name} of {CHOICES[name]}, got {value!r}.")
        elif name in RANGES:
            low, high = RANGES[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise InputError(f"Expected {name} from {low:g} to {high:g}, got {value!r}.")
        else:
            raise InputError(f"Expected one of {[*CHOICES, *RANGES]}, got {name!r}.")
    if "window" in wishes:
        level, width = WINDOWS[wishes["window"]]
        return replace(display, **{"level": level, "width": width, **wishes})
    if "level" in wishes or "width" in wishes:
        return replace(display, **{**wishes, "window": ""})
    return replace(display, **wishes)
