"""What a visitor has chosen to see, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml import WINDOWS

OVERLAYS = ("gradcam", "gradcam_label", "spread", "")
MODES = ("result", "compare")


@dataclass(frozen=True)
class Display:
    """How a result is shown.

    Attributes:
        window: name of a window in HU, of mrml.WINDOWS.
        overlay: what is laid over the planes, of OVERLAYS; "" is nothing.
        opacity: of the overlay, 0..1.
        threshold: Grad-CAM below it is not shown, 0..1.
        mode: of MODES; "compare" needs a true CTPA.
    """

    window: str = "CTPA"
    overlay: str = "gradcam"
    opacity: float = 0.5
    threshold: float = 0.25
    mode: str = "result"


_CHOICES = {"window": tuple(WINDOWS), "overlay": OVERLAYS, "mode": MODES}
_PARTS = ("opacity", "threshold")


def changed(display: Display, wishes: Mapping[str, Any]) -> Display:
    """``display`` with the fields that ``wishes`` names; raises InputError for another field or value."""
    for name, value in wishes.items():
        if name in _CHOICES:
            if value not in _CHOICES[name]:
                raise InputError(f"Expected {name} of {_CHOICES[name]}, got {value!r}.")
        elif name in _PARTS:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InputError(f"Expected {name} from 0 to 1, got {value!r}.")
        else:
            raise InputError(f"Expected one of {[*_CHOICES, *_PARTS]}, got {name!r}.")
    return replace(display, **wishes)
