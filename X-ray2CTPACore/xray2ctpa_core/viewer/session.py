"""One visitor: a private folder, a film, a run, a result, and the tabs that show them."""

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.generation.failures import user_error
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.mrml import sentences
from xray2ctpa_core.mrml.record import read_record, record_rows
from xray2ctpa_core.viewer import case, run, upload
from xray2ctpa_core.viewer.scene import ResultScene
from xray2ctpa_core.viewer.showing import WISHES, Showing, jpeg
from xray2ctpa_core.viewer.tabs import Tab, Tabs

EMPTY, CHECKING, READY, RUNNING, DONE = "empty", "checking", "ready", "running", "done"
#: Longer side in pixels of the picture of a film that waits for its run.
_THUMBNAIL_SIDE = 900


@dataclass(frozen=True)
class Opening:
    """What the command named, shown to every visitor.

    Attributes:
        result: result folder, or None.
        film: the radiograph: of ``result``, or to generate from.
        truth: a true CTPA to compare with.
        bundle: name or folder of the weights to generate with.
    """

    result: Path | None = None
    film: Path | None = None
    truth: Path | None = None
    bundle: str = DEFAULT_BUNDLE


class Session:
    """The state of one visitor, and what may be done to it; all of it in the event loop's thread.

    Args:
        folder: private to this session, new; removed by ``close``.
        opening: what the command named.
    """

    def __init__(self, folder: Path, opening: Opening) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.last_seen = time.monotonic()
        self.phase = EMPTY
        self._opening = opening
        self._tabs = Tabs()
        self._message: dict[str, str] | None = None
        self._film: Path | None = None
        self._verdict: dict[str, Any] | None = None
        self._progress = run.Progress()
        self._result: Path | None = None
        self._showing: Showing | None = None
        self._task: asyncio.Task[None] | None = None
        if opening.result is not None:
            try:
                self._open_result(opening.result, opening.film, opening.truth)
            except XRay2CTPAError as error:
                self._message = _in_words(error)
        elif opening.film is not None:
            self._take_film(opening.film)

    @property
    def is_watched(self) -> bool:
        """Whether a tab shows it."""
        return bool(self._tabs)

    @property
    def is_busy(self) -> bool:
        """Whether it computes."""
        return self.phase in (CHECKING, RUNNING)

    def attach(self, tab: Tab) -> None:
        """Shows everything to a new tab."""
        self.last_seen = time.monotonic()
        tab.tell("state", self._state())
        self._tabs.add(tab)
        if self._showing is not None:
            self._showing.welcome(tab)

    def detach(self, tab: Tab) -> None:
        """Forgets a tab that has gone; a run goes on."""
        self._tabs.remove(tab)
        self.last_seen = time.monotonic()

    async def close(self) -> None:
        """Ends the run and removes every file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._close_result()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def receive(self, chunks: AsyncIterator[bytes], name: str, announced: int | None) -> None:
        """Takes an upload in; raises InputError or OutputError, and keeps what was there before."""
        self._refuse_while_busy(CHECKING, RUNNING)
        folder = self.folder / f"film-{secrets.token_hex(4)}"
        try:
            film = await upload.receive(chunks, name, announced, folder)
            self._refuse_while_busy(RUNNING)  # a run that was started while the upload arrived
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._take_film(film)

    def act(self, message: Mapping[str, Any]) -> None:
        """Does what a tab asks for; raises InputError for what it cannot mean."""
        what = message.get("do")
        if what == "generate":
            self._generate(message)
        elif what == "cancel":
            self._cancel()
        elif what == "start_over":
            self._start_over()
        elif what in WISHES:
            if self._showing is not None:
                self._showing.do(what, message)
                if what == "show":
                    self._tell_state()
        else:
            raise InputError(f"Expected generate, cancel, start_over or one of {WISHES}, got {what!r}.")

    def result_folder(self) -> Path | None:
        """The result that is shown."""
        return self._result if self.phase == DONE else None

    # --- Film and run ---------------------------------------------------------------------------

    def _refuse_while_busy(self, *phases: str) -> None:
        if self.phase in phases:
            raise InputError("Expected to wait for the present run, got another film.", "Cancel it first.")

    def _take_film(self, film: Path) -> None:
        """Has a film checked that lies in this session's folder, or that the command named."""
        if self._task is not None:  # the check of a film that this one replaces
            self._task.cancel()
        self._forget_film()
        self._film, self.phase = film, CHECKING
        self._begin(self._check(film))

    async def _check(self, film: Path) -> None:
        self._verdict = await run.check(film, self._opening.bundle, self.folder)
        self._tabs.show("film", await asyncio.to_thread(_thumbnail, film), keep=True)
        self.phase = READY

    def _generate(self, message: Mapping[str, Any]) -> None:
        if self.phase != READY or self._film is None:
            raise InputError("Expected a checked film to generate from, got none.", "Choose a film.")
        self.phase, self._progress = RUNNING, run.Progress()
        self._begin(self._run(self._film, message))

    async def _run(self, film: Path, wishes: Mapping[str, Any]) -> None:
        out = self.folder / f"result-{secrets.token_hex(4)}"

        def on_change(picture: Path | None) -> None:
            if picture is not None and picture.is_file():
                self._tabs.show("preview", picture.read_bytes(), keep=True)
            self._tell_state()

        try:
            await run.generate(film, out, self._opening.bundle, wishes, self._progress, on_change)
            self._open_result(out, film, self._opening.truth if film == self._opening.film else None)
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts to check or to run."""
        self._message = None
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._on_end)
        self._tell_state()

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        """A check or a run has ended by itself; what it failed of is said."""
        if task.cancelled() or task is not self._task:
            return
        error = task.exception()
        if error is not None:
            self._give_up(user_error(error))
        self._tabs.forget("preview")
        self._tell_state()

    def _cancel(self) -> None:
        if self.is_busy and self._task is not None:
            self._task.cancel()
            self._give_up(InputError("Cancelled; nothing of the run was kept."))
            self._tell_state()

    def _give_up(self, why: XRay2CTPAError) -> None:
        """A check or a run has given nothing: a film that was not yet accepted is forgotten."""
        was_checking = self.phase == CHECKING
        self.phase = READY
        if was_checking:
            self._forget_film()
        self._tabs.forget("preview")
        self._message = _in_words(why)

    def _start_over(self) -> None:
        """Back to the place where a film is chosen."""
        if not self.is_busy:
            self._forget_film()
            self._message = None
            self._tell_state()

    def _forget_film(self) -> None:
        """Removes the film and what was made of it, as far as they lie in this session's folder."""
        self._close_result()
        self._tabs.forget()
        for path in (self._film and self._film.parent, self._result):
            if path is not None and path.parent == self.folder:
                shutil.rmtree(path, ignore_errors=True)
        self._verdict, self._film, self._result, self.phase = None, None, None, EMPTY

    # --- Result ---------------------------------------------------------------------------------

    def _open_result(self, folder: Path, film: Path | None, truth: Path | None) -> None:
        record = read_record(folder)
        scene = ResultScene(folder, case.film_of(record, folder, film), case.truth_of(record, truth))
        self._showing = Showing(scene, self._tabs)
        self._showing.artist.add_done_callback(self._on_artists_end)
        self._result, self.phase = folder, DONE

    def _on_artists_end(self, artist: "asyncio.Task[None]") -> None:
        """The drawing ends by itself only by a defect."""
        error = None if artist.cancelled() else artist.exception()
        if error is not None:
            self._message = _in_words(user_error(error))
            self._tell_state()

    def _close_result(self) -> None:
        if self._showing is not None:
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
            "film": self._film.name if self._film else None,
            "verdict": self._verdict,
            "max_mb": upload.MAX_BYTES >> 20,
        }
        if self.phase == RUNNING:
            state["progress"] = asdict(self._progress)
        if self._showing is not None:
            scene = self._showing.scene
            record = scene.nodes.record
            state["result"] = {
                "sentences": sentences(record),
                "pe": record["pe"],
                "rows": record_rows(record),
                "notice": record["notice"],
                "has_spread": scene.nodes.spread is not None,
                "has_truth": scene.comparison is not None,
            }
            state["display"] = asdict(scene.display)
            state["views"] = scene.shown()
        return state


def _in_words(error: XRay2CTPAError) -> dict[str, str]:
    return {"text": error.message, "hint": error.hint}


def _thumbnail(film: Path) -> bytes:
    """A film as a JPEG, its proportions kept."""
    image = Image.fromarray((read_radiograph(film).pixels * 255).astype(np.uint8))
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return jpeg(np.asarray(image))
