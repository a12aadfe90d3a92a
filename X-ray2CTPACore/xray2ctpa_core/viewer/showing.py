"""A result before its audience: wishes change the scene, and what is out of date is drawn and sent.

Importing it loads Slicer's libraries.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.record import read_record
from xray2ctpa_core.viewer import case, stage
from xray2ctpa_core.viewer.ahead import Ahead
from xray2ctpa_core.viewer.display import CHOICES, RANGES, Look, changed
from xray2ctpa_core.viewer.pathway import pathway
from xray2ctpa_core.viewer.pictures import MAX_BYTES, Pictures
from xray2ctpa_core.viewer.scene import COMPARE_VIEWS, RESULT_VIEWS, ResultScene, orientation
from xray2ctpa_core.viewer.shelf import Entry
from xray2ctpa_core.viewer.stage import RENDERING
from xray2ctpa_core.viewer.tabs import Tab, Tabs, jpeg
from xray2ctpa_core.viewer.titles import described
from xray2ctpa_core.viewer.words import garbled_as_input_error, words_of

#: What a tab may ask of the views: of all of them, and of one.
WISHES = ("show", "hottest", "reset", "turn", "triage")
VIEW_WISHES = ("resize", "point", "zoom", "pan", "scroll", "slice", "probe")
#: Seconds that pictures of planes get to be sent before the rendering is drawn.
_SENDING_SECONDS = 0.03
#: Seconds without a wish after which the rendering is drawn in full.
_REFINE_AFTER = 0.35
#: Seconds before a drawing in advance: a message is read to its end in several rounds of the event loop. And
#: without a wish before slices are drawn that are not beside those that are looked at.
_LULL_SECONDS, _REST_SECONDS = 0.01, 0.5


@dataclass(frozen=True)
class Files:
    """The radiograph and the truth of a result, read; in any thread, as it takes a while."""

    entry: Entry
    radiograph: case.ShownRadiograph | None
    truth: case.Truth | None


def read(entry: Entry) -> Files:
    """Reads what is shown beside a result; raises InputError where it cannot be read."""
    record = read_record(entry.folder)
    with garbled_as_input_error(entry.folder):
        words_of(record)
        radiograph = case.radiograph_of(record, entry.folder, entry.radiograph)
        return Files(entry, radiograph, case.truth_of(record, entry.truth))


def opened(files: Files, tabs: Tabs, bundle: str, look: Look | None = None) -> "Showing":
    """Opens a result; raises InputError where it cannot be shown.

    Args:
        files: of the result.
        tabs, bundle: as of ``Showing``.
        look: what was looked at before; None shows all of it.
    """
    truth = files.truth
    scene = ResultScene(files.entry.folder, files.radiograph, truth.array if truth else None)
    if look is not None:
        scene.look_as(look)
    return Showing(scene, tabs, truth.doubts if truth else [], bundle)


def warm_up() -> None:
    """Makes a stage ready, so that the first result opens sooner; in the event loop's thread."""
    ready = stage.borrow()
    ready.warm_up()
    stage.give_back(ready)


class Showing:
    """Shows one result; all of it in the event loop's thread, to which the scene belongs.

    Args:
        scene: closed with it.
        tabs: told and shown everything.
        doubts: sentences on the comparison with the truth.
        bundle: name or folder of the model that the page generates with.
    """

    def __init__(self, scene: ResultScene, tabs: Tabs, doubts: list[str], bundle: str) -> None:
        self.scene, self._bundle = scene, bundle
        self._tabs = tabs
        self._doubts = doubts
        self._dirty: set[str] = set()
        self._pictures = Pictures()
        self._ahead = Ahead(scene)
        self._wake = asyncio.Event()
        self._last_wish, self._room_ahead = 0.0, 0
        self._refining: asyncio.TimerHandle | None = None
        #: Runs until it is cancelled, or fails by a defect.
        self.artist = asyncio.create_task(self._draw_forever())

    def close(self) -> None:
        """Ends the drawing and gives the scene's memory back, at once: a cancelled task holds what it ran in,
        which would wait for a garbage collection if it were still held here."""
        self.artist.cancel()
        del self.artist
        if self._refining is not None:
            self._refining.cancel()
        self.scene.close()

    def state(self) -> dict[str, Any]:
        """What a tab needs to draw the page of the result."""
        scene = self.scene
        record = scene.nodes.record
        assumed = case.are_millimetres_assumed(record)
        return {
            "result": {
                **words_of(record),
                "has_spread": scene.nodes.spread is not None,
                "has_truth": scene.truth is not None,
                "doubts": self._doubts,
                "millimetres_assumed": assumed,
            },
            "display": asdict(scene.display),
            "ranges": RANGES,
            "choices": CHOICES,
            "views": [{"name": name, **described(name)} for name in scene.shown()],
            "bars": scene.bars(),
        }

    def place(self) -> dict[str, Any]:
        """Where the planes meet: RAS in mm, and of every view what it shows and where they meet in it."""
        views: dict[str, dict[str, Any]] = {}
        for name in self.scene.shown():
            views[name] = {"crosshair": self.scene.crosshair(name), "extent": self.scene.extent(name)}
            if described(name)["plane"]:
                number, count = self.scene.slice_of(name)
                views[name] |= {"slice": number, "slices": count}
        return {"position": [round(p, 1) for p in self.scene.position], "views": views}

    def welcome(self, tab: Tab) -> None:
        """Tells a new tab where the planes meet; its views are drawn when it has said how large they are."""
        tab.tell("place", self.place())

    def do(self, wish: Any, message: Mapping[str, Any], tab: Tab) -> bool:
        """Does what a tab wishes, and returns whether the state has changed with it.

        Raises:
            InputError: it is none of WISHES and VIEW_WISHES, or names what is not there.
        """
        scene = self.scene
        if wish == "show":
            how = {name: value for name, value in message.items() if name != "do"}
            self._redraw(scene.show(changed(scene.display, how)))
            return True
        if wish == "probe":
            self._probe(message, tab)
        elif wish == "triage":
            tab.tell("triage", pathway(scene.nodes.record, message, self._bundle))
        elif wish == "hottest":
            if not scene.go_to_hottest():
                raise InputError("No Grad-CAM evidence reaches the lowest level: no slice is hottest.")
            self._redraw(set(scene.shown()) - {RENDERING})
        elif wish == "reset":
            self._redraw(scene.reset())
        elif wish == "turn":
            self._redraw(scene.turn(_number(message, "x"), _number(message, "y")))
        elif isinstance(wish, str) and wish in VIEW_WISHES:
            self._redraw(self._do_in_view(wish, message))
        else:
            raise InputError(f"Expected one of {[*WISHES, *VIEW_WISHES]}, got {wish!r}.")
        return False

    def _do_in_view(self, wish: str, message: Mapping[str, Any]) -> set[str]:
        """What concerns one view; returns those that are out of date then."""
        scene, name = self.scene, self._view_of(message)
        if name not in scene.shown():
            return set()  # sent before the tab knew of the present mode
        self._ahead.touched = name
        x, y = (_number(message, side, None if wish in ("resize", "point", "pan") else 0.5) for side in "xy")
        if wish == "resize":
            return scene.resize(name, round(x), round(y))
        if wish == "point":
            return scene.point(name, x, y)
        if wish == "pan":
            return scene.pan(name, x, y)
        if wish == "zoom":
            factor = _number(message, "factor")
            if factor <= 0:
                raise InputError(f"Expected a factor above 0, got {factor:g}.")
            return scene.zoom(name, factor, x, y)
        if not described(name)["plane"]:
            return set()
        if wish == "slice":
            return scene.go_to_slice(name, _number(message, "number"))
        return scene.scroll(name, _number(message, "steps"))

    def _probe(self, message: Mapping[str, Any], tab: Tab) -> None:
        """Tells the tab that asks what lies under its cursor."""
        name, x, y = self._view_of(message), _number(message, "x"), _number(message, "y")
        if name not in self.scene.shown():
            return
        if name != self._ahead.touched:  # what is pointed at will be scrolled
            self._ahead.touched = name
            self._look_ahead()
            self._wake.set()
        tab.tell("probe", {"view": name, "values": self.scene.values_at(name, x, y)})

    def _view_of(self, message: Mapping[str, Any]) -> str:
        """The view that a message names, of either mode."""
        name = message.get("view")
        if not isinstance(name, str) or name not in (*RESULT_VIEWS, *COMPARE_VIEWS):
            raise InputError(f"Expected a view of {self.scene.shown()}, got {name!r}.")
        return name

    def _refine_soon(self) -> None:
        """Has the rendering drawn in full when nothing has been wished for a moment."""
        if self._refining is not None:
            self._refining.cancel()
        loop = asyncio.get_running_loop()
        self._refining = loop.call_later(_REFINE_AFTER, self._refine)

    def _refine(self) -> None:
        self._dirty |= self.scene.refine()
        self._wake.set()

    def _redraw(self, names: set[str]) -> None:
        """Has views drawn again, and tells where the planes meet now."""
        self._dirty |= names
        self._look_ahead()
        self._refine_soon()
        self._wake.set()
        self._tabs.tell("place", self.place())

    def _look_ahead(self) -> None:
        self._ahead.renew()
        self._last_wish, self._room_ahead = time.monotonic(), MAX_BYTES

    async def _draw_forever(self) -> None:
        """Draws what is out of date, planes before the rendering, as long as somebody looks."""
        while True:
            await self._wake.wait()
            self._dirty &= set(self.scene.shown())
            if not self._tabs or not (self._dirty or self._ahead):
                self._wake.clear()
                continue
            if not self._dirty:
                await self._draw_ahead()
                continue
            if self._dirty == {
                RENDERING
            }:  # it takes long: what is drawn goes out first, what comes goes before
                await asyncio.sleep(_SENDING_SECONDS)
            name = min(self._dirty, key=self._rank)
            self._dirty.discard(name)
            self._tabs.show(name, self._picture(name))
            await asyncio.sleep(0)  # messages that came meanwhile may spare the next drawing

    async def _draw_ahead(self) -> None:
        """Draws the next picture in advance, unless a wish comes before; stops where room is short."""
        wait = _LULL_SECONDS
        if not self._ahead.is_near:
            wait = max(wait, self._last_wish + _REST_SECONDS - time.monotonic())
        self._wake.clear()
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
            return
        except TimeoutError:
            self._wake.set()
        former = self._pictures.kept
        while self._ahead and self._pictures.kept == former:  # what was drawn before takes no time
            self._room_ahead -= len(self._picture(*self._ahead.next()))
            if self._room_ahead <= 0:
                self._ahead.stop()

    def _picture(self, name: str, position: tuple[float, ...] | None = None) -> bytes:
        """A view as JPEG, as it is or cut at ``position``; drawn unless it looked the same before."""
        looks = self.scene.looks(name, position)
        picture = None if looks is None else self._pictures.find(looks)
        if picture is None:
            picture = jpeg(self.scene.draw(name) if position is None else self.scene.draw_at(name, position))
            if looks is not None:
                self._pictures.keep(looks, picture)
        return picture

    def _rank(self, name: str) -> tuple[bool, bool, str]:
        """Views in the order in which they are drawn: the one that was touched last before other planes."""
        plane = orientation(name) if described(name)["plane"] else ""
        return name == RENDERING, name != self._ahead.touched, plane


def _number(message: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """A finite number of a message; raises InputError for anything else."""
    value = message.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e5:
        raise InputError(f"Expected a number {name}, got {value!r}.")
    return float(value)
