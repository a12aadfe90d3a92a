"""A result before its audience: wishes change the scene, and what is out of date is drawn and sent."""

import asyncio
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml import FILM_VIEW
from xray2ctpa_core.viewer.display import changed
from xray2ctpa_core.viewer.scene import RENDERING, ResultScene
from xray2ctpa_core.viewer.tabs import Tab, Tabs

#: What a tab may ask of the views.
WISHES = ("show", "hottest", "reset", "turn", "resize", "point", "zoom", "scroll")
_JPEG_QUALITY = 92
#: Seconds that pictures of planes get to be sent before the rendering is drawn.
_SENDING_SECONDS = 0.03
#: Seconds after the last turn of the rendering until it is drawn in full.
_REFINE_AFTER = 0.35


class Showing:
    """Shows one result; all of it in the event loop's thread, to which the scene belongs."""

    def __init__(self, scene: ResultScene, tabs: Tabs) -> None:
        self.scene = scene
        self._tabs = tabs
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._refining: asyncio.TimerHandle | None = None
        #: Runs until it is cancelled, or fails by a defect.
        self.artist = asyncio.create_task(self._draw_forever())

    def close(self) -> None:
        """Ends the drawing and gives the scene's memory back."""
        self.artist.cancel()
        if self._refining is not None:
            self._refining.cancel()
        self.scene.close()

    def place(self) -> dict[str, Any]:
        """Where the planes meet: RAS in mm, and by view as parts of its width and height."""
        return {
            "position": [round(p, 1) for p in self.scene.position],
            "crosshairs": {name: self.scene.crosshair(name) for name in self.scene.shown()},
        }

    def welcome(self, tab: Tab) -> None:
        """Tells a new tab where the planes meet; its views are drawn when it has said how large they are."""
        tab.tell("place", self.place())

    def do(self, wish: str, message: Mapping[str, Any]) -> None:
        """Does what a tab wishes, one of WISHES; raises InputError for what it cannot mean."""
        scene = self.scene
        if wish == "show":
            how = {name: value for name, value in message.items() if name != "do"}
            self._redraw(scene.show(changed(scene.display, how)))
        elif wish == "hottest":
            if not scene.go_to_hottest():
                raise InputError("No Grad-CAM evidence reaches the lowest level: no slice is hottest.")
            self._redraw(set(scene.shown()))
        elif wish == "reset":
            self._redraw(scene.reset())
        elif wish == "turn":
            self._redraw(scene.turn(_number(message, "x"), _number(message, "y")))
            self._refine_soon()
        else:
            self._redraw(self._do_in_view(wish, message))

    def _do_in_view(self, wish: str, message: Mapping[str, Any]) -> set[str]:
        """What concerns one view; returns those that are out of date then."""
        scene, name = self.scene, message.get("view")
        if name not in scene.shown():
            raise InputError(f"Expected a view of {scene.shown()}, got {name!r}.")
        if wish == "resize":
            self._refine_soon()
            return scene.resize(name, round(_number(message, "x")), round(_number(message, "y")))
        if wish == "point":
            return scene.point(name, _number(message, "x"), _number(message, "y"))
        if wish == "zoom" or name in (RENDERING, FILM_VIEW):
            return scene.zoom(name, _number(message, "y"))
        return scene.scroll(name, _number(message, "y"))

    def _refine_soon(self) -> None:
        """Has the rendering drawn in full when nothing has changed for a moment."""
        if self._refining is not None:
            self._refining.cancel()
        loop = asyncio.get_running_loop()
        self._refining = loop.call_later(_REFINE_AFTER, lambda: self._redraw(self.scene.refine()))

    def _redraw(self, names: set[str]) -> None:
        """Has views drawn again, and tells where the planes meet now."""
        self._dirty |= names
        self._wake.set()
        self._tabs.tell("place", self.place())

    async def _draw_forever(self) -> None:
        """Draws what is out of date, planes before the rendering, as long as somebody looks."""
        while True:
            await self._wake.wait()
            if not self._dirty or not self._tabs:
                self._wake.clear()
                continue
            if self._dirty == {RENDERING}:  # it takes long: what is drawn goes out first
                await asyncio.sleep(_SENDING_SECONDS)
            name = min(self._dirty, key=lambda n: (n == RENDERING, n))
            self._dirty.discard(name)
            self._tabs.show(name, jpeg(self.scene.draw(name)))
            await asyncio.sleep(0)  # messages that came meanwhile may spare the next drawing


def jpeg(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as JPEG with all its colour."""
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return packed.getvalue()


def _number(message: Mapping[str, Any], name: str) -> float:
    """A finite number of a message; raises InputError for anything else."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e5:
        raise InputError(f"Expected a number {name}, got {value!r}.")
    return float(value)
