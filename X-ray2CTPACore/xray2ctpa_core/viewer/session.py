"""One visitor: a private folder, a radiograph, a run, the results, and the tabs that show them."""

import asyncio
import importlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.generation.failures import user_error
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.viewer import run, upload
from xray2ctpa_core.viewer.case import shrunk
from xray2ctpa_core.viewer.download import can_write_dicom
from xray2ctpa_core.viewer.presets import presets
from xray2ctpa_core.viewer.shelf import Entry, Shelf
from xray2ctpa_core.viewer.tabs import Tab, Tabs, jpeg

if TYPE_CHECKING:
    from xray2ctpa_core.viewer.display import Look
    from xray2ctpa_core.viewer.showing import Showing

EMPTY, CHECKING, READY, RUNNING, OPENING, DONE = "empty", "checking", "ready", "running", "opening", "done"
_SHOWING = "xray2ctpa_core.viewer.showing"
#: Longer side in pixels of the picture of a radiograph that waits for its run.
_THUMBNAIL_SIDE = 900


@dataclass(frozen=True)
class Opening:
    """What the command named, shown to every visitor.

    Attributes:
        result: result folder, or None.
        radiograph: the radiograph: of ``result``, or to generate from.
        truth: a true CTPA to compare with.
        bundle: name or folder of the weights to generate with.
    """

    result: Path | None = None
    radiograph: Path | None = None
    truth: Path | None = None
    bundle: str = DEFAULT_BUNDLE


class Session:
    """The state of one visitor, and what may be done to it; all of it in the event loop's thread.

    Args:
        folder: private to this session, new; removed by ``close``.
        opening: what the command named; shown as soon as a tab looks.
    """

    def __init__(self, folder: Path, opening: Opening) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.last_seen = time.monotonic()
        self.phase = EMPTY
        self._opening = opening
        self._tabs = Tabs()
        self._message: dict[str, str] | None = None
        self._radiograph: Path | None = None
        self._radiograph_name = ""
        self._verdict: dict[str, Any] | None = None
        self._progress = run.Progress()
        self._shelf = Shelf()
        self._current: Entry | None = None
        self._showing: Showing | None = None
        self._looks: dict[str, Look] = {}  # by identifier of the result
        self._task: asyncio.Task[None] | None = None
        self._is_receiving = False
        self._has_begun = False

    @property
    def is_watched(self) -> bool:
        """Whether a tab shows it."""
        return bool(self._tabs)

    @property
    def is_busy(self) -> bool:
        """Whether it computes."""
        return self.phase in (CHECKING, RUNNING, OPENING)

    @property
    def has_results(self) -> bool:
        """Whether results would be lost with it."""
        return any(entry.owned for entry in self._shelf)

    def attach(self, tab: Tab) -> None:
        """Shows everything to a new tab."""
        self.last_seen = time.monotonic()
        self._tabs.add(tab)
        if not self._has_begun:
            self._has_begun = True
            self._begin_with_opening()
        elif self.phase == DONE and self._current is not None and self._showing is None:
            self._open(self._current)
        tab.tell("state", self._state())
        if self._showing is not None:
            self._showing.welcome(tab)

    def detach(self, tab: Tab) -> None:
        """Forgets a tab that has gone; a run goes on."""
        self._tabs.remove(tab)
        self.last_seen = time.monotonic()

    def rest(self) -> None:
        """Gives the views of a result back that nobody looks at; the next tab has it opened again."""
        if not self.is_watched and not self.is_busy:
            self._close_showing()

    async def close(self) -> None:
        """Ends the run and removes every file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._close_showing()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def receive(
        self, chunks: AsyncIterator[bytes], name: str, announced: int | None, header: int = 0
    ) -> None:
        """Takes an upload in, as ``upload.receive``; raises InputError or OutputError, and keeps what was
        there before."""
        self._refuse_while_busy()
        if self._is_receiving:
            raise InputError("Expected one upload at a time, got another.", "Wait for the first one.")
        folder, name = self.folder / f"radiograph-{secrets.token_hex(4)}", upload.safe_name(name)
        self._is_receiving = True
        try:
            radiograph = await upload.receive(chunks, name, announced, folder, header)
            self._refuse_while_busy()  # a run that was started while the upload arrived
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, InputError):
                error.message = _without_paths(error.message, folder / upload.stored_name(name), name)
            raise
        finally:
            self._is_receiving = False
        self._take_radiograph(radiograph, name)

    def act(self, message: Mapping[str, Any], tab: Tab) -> None:
        """Does what a tab asks for; raises InputError for what it cannot mean."""
        what = message.get("do")
        actions = {
            "generate": lambda: self._generate(message),
            "cancel": self._cancel,
            "start_over": self._start_over,
            "sample": self._take_sample,
            "open": lambda: self._open_again(message.get("id")),
            "discard": lambda: self._discard(message.get("id")),
        }
        if isinstance(what, str) and what in actions:
            actions[what]()
        elif self._showing is not None and self.phase == DONE:
            if self._showing.do(what, message, tab):
                self._tell_state()
        elif not isinstance(what, str):
            raise InputError(f"Expected one of {list(actions)} or a wish for a view, got {what!r}.")

    def shown_entry(self) -> Entry | None:
        """The result that is shown."""
        return self._current if self.phase == DONE else None

    # --- Radiograph and run ---------------------------------------------------------------------

    def _begin_with_opening(self) -> None:
        """Shows what the command named."""
        opening = self._opening
        if opening.result is not None:
            name = opening.radiograph.name if opening.radiograph else opening.result.name
            entry = Entry(opening.result, name, opening.radiograph, opening.truth)
            self._shelf.add(entry)
            self._open(entry)
        elif opening.radiograph is not None:
            self._take_radiograph(opening.radiograph, opening.radiograph.name)

    def _refuse_while_busy(self) -> None:
        if self.phase == RUNNING:
            raise InputError(
                "Expected to wait for the present run, got another radiograph.", "Cancel it first."
            )

    def _take_radiograph(self, radiograph: Path, name: str) -> None:
        """Has a radiograph checked that lies in this session's folder, or that the command named."""
        if self._task is not None:  # the check of a radiograph that this one replaces
            self._task.cancel()
        self._forget_radiograph()
        self._radiograph, self._radiograph_name, self.phase = radiograph, name, CHECKING
        self._begin(self._check(radiograph))

    def _take_sample(self) -> None:
        """Has the packaged radiograph checked, for whoever has none at hand."""
        self._refuse_while_busy()
        self._take_radiograph(SAMPLE_CXR, SAMPLE_CXR.name)

    async def _check(self, radiograph: Path) -> None:
        self._verdict = await run.check(radiograph, self._opening.bundle, self.folder)
        self._tabs.show("radiograph", await asyncio.to_thread(_thumbnail, radiograph), keep=True)
        self.phase = READY

    def _generate(self, message: Mapping[str, Any]) -> None:
        if self.phase != READY or self._radiograph is None:
            raise InputError(
                "Expected a checked radiograph to generate from, got none.", "Choose a radiograph."
            )
        self._shelf.require_room()
        self.phase, self._progress = RUNNING, run.Progress()
        self._begin(self._run(self._radiograph, message))

    async def _run(self, radiograph: Path, wishes: Mapping[str, Any]) -> None:
        out = self.folder / f"result-{secrets.token_hex(4)}"

        def on_change(picture: Path | None) -> None:
            if picture is not None and picture.is_file():
                self._tabs.show("preview", picture.read_bytes(), keep=True)
            self._tell_state()

        try:
            await run.generate(radiograph, out, self._opening.bundle, wishes, self._progress, on_change)
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise
        owned = (out, radiograph.parent) if radiograph.parent.parent == self.folder else (out,)
        truth = self._opening.truth if radiograph == self._opening.radiograph else None
        entry = Entry(out, self._radiograph_name, radiograph, truth, owned)
        self._shelf.add(entry)
        self._radiograph = None  # it belongs to the result now
        await self._show(entry)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts to check, to run or to open."""
        self._message = None
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._on_end)
        self._tell_state()

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        """A check, a run or an opening has ended by itself; what it failed of is said."""
        if task.cancelled() or task is not self._task:
            return
        error = task.exception()
        if error is not None:
            self._give_up(user_error(error))
        self._tabs.forget("preview")
        self._tell_state()

    def _cancel(self) -> None:
        if self.phase in (CHECKING, RUNNING) and self._task is not None:
            self._task.cancel()
            self._give_up(InputError("Cancelled; nothing of the run was kept."))
            self._tell_state()

    def _give_up(self, why: XRay2CTPAError) -> None:
        """Nothing has come of a check, a run or an opening: back to what was there before."""
        self._message = self.in_words(why)
        if self.phase == RUNNING and self._radiograph is not None:
            self.phase = READY
        else:
            if self.phase == CHECKING:
                self._forget_radiograph()
            self.phase = DONE if self._showing is not None else EMPTY
            self._current = self._current if self._showing is not None else None
        self._tabs.forget("preview")

    def _start_over(self) -> None:
        """Back to the place where a radiograph is chosen; results stay in the list."""
        if not self.is_busy:
            self._forget_radiograph()
            self._message, self.phase = None, EMPTY
            self._tell_state()

    def _forget_radiograph(self) -> None:
        """Removes a radiograph of which no result was made, if it lies in this session's folder."""
        self._tabs.forget()
        if self._radiograph is not None and self._radiograph.parent.parent == self.folder:
            shutil.rmtree(self._radiograph.parent, ignore_errors=True)
        self._radiograph, self._verdict = None, None

    # --- Results --------------------------------------------------------------------------------

    def _open_again(self, identifier: Any) -> None:
        """Shows a result of the list; a radiograph that waits for its run stays on the disk no longer."""
        entry = self._shelf.find(identifier)
        if self.is_busy:
            raise InputError(
                "Expected to wait for the present run, got a result to open.", "Cancel it first."
            )
        self._forget_radiograph()
        if entry is self._current and self._showing is not None:
            self._message, self.phase = None, DONE
            self._tell_state()
        else:
            self._open(entry)

    def _discard(self, identifier: Any) -> None:
        entry = self._shelf.find(identifier)
        if self.is_busy:
            raise InputError("Expected to wait for the present run, got a result to discard.")
        if entry is self._current:
            self._close_showing()
            self._current = None
            self.phase = EMPTY if self.phase == DONE else self.phase
        self._shelf.discard(entry)
        self._looks.pop(entry.identifier, None)
        self._tell_state()

    def _open(self, entry: Entry) -> None:
        self.phase = OPENING
        self._begin(self._show(entry))

    async def _show(self, entry: Entry) -> None:
        """Builds the views of a result; the first time, Slicer's libraries are loaded for it."""
        self.phase = OPENING
        self._tell_state()
        showing = await asyncio.to_thread(importlib.import_module, _SHOWING)
        files = await asyncio.to_thread(showing.read, entry)
        self._close_showing()
        look = self._looks.get(entry.identifier)
        self._showing = showing.opened(files, self._tabs, self._opening.bundle, look)
        self._current = entry
        self._showing.artist.add_done_callback(self._on_artists_end)
        self.phase = DONE
        self._tell_state()
        self._tabs.tell("place", self._showing.place())

    def _on_artists_end(self, artist: "asyncio.Task[None]") -> None:
        """The drawing ends by itself only by a defect."""
        error = None if artist.cancelled() else artist.exception()
        if error is not None:
            self._message = self.in_words(user_error(error))
            self._tell_state()

    def _close_showing(self) -> None:
        """Closes the views, and remembers what was looked at."""
        if self._showing is not None:
            if self._current is not None:
                self._looks[self._current.identifier] = self._showing.scene.look()
            self._showing.close()
            self._showing = None

    # --- What a tab is told ---------------------------------------------------------------------

    def _tell_state(self) -> None:
        self._tabs.tell("state", self._state())

    def _state(self) -> dict[str, Any]:
        """Everything a tab needs to draw the page."""
        state: dict[str, Any] = {
            "phase": self.phase,
            "message": self._message,
            "radiograph": self._radiograph_name if self._radiograph else None,
            "verdict": self._verdict,
            "max_mb": upload.MAX_BYTES >> 20,
            "presets": presets(self._opening.bundle),
            "can_dicom": can_write_dicom(),
            "has_sample": SAMPLE_CXR.is_file(),
            "results": [
                {
                    "id": entry.identifier,
                    "name": entry.name,
                    "made": entry.made,
                    "current": entry is self._current,
                    "kept_elsewhere": not entry.owned,
                }
                for entry in self._shelf
            ],
        }
        if self.phase == RUNNING:
            state["progress"] = asdict(self._progress)
        if self._showing is not None and self.phase == DONE:
            state.update(self._showing.state())
        return state

    def in_words(self, error: XRay2CTPAError) -> dict[str, str]:
        """What a visitor reads of an error: no path of this machine, and his own name for the radiograph."""
        text, hint = error.message, error.hint
        if self._radiograph is not None:
            text = _without_paths(text, self._radiograph, self._radiograph_name)
        opening = self._opening
        named = [path for path in (opening.result, opening.radiograph, opening.truth) if path is not None]
        for folder in (self.folder, *(path.parent for path in named)):
            text, hint = (words.replace(f"{folder}/", "") for words in (text, hint))
        return {"text": text, "hint": hint}


def _without_paths(text: str, path: Path, name: str) -> str:
    """``text`` with ``name`` for a radiograph's path and for its neutral name."""
    return text.replace(str(path), name).replace(path.name, name)


def _thumbnail(radiograph: Path) -> bytes:
    """A radiograph as a JPEG, its proportions kept."""
    pixels, _times = shrunk(read_radiograph(radiograph).pixels, 2 * _THUMBNAIL_SIDE)
    image = Image.fromarray((pixels * 255).astype(np.uint8))
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return jpeg(np.asarray(image))
