"""The web server of the page: its files, a socket a tab, uploads, downloads; a session a visitor."""

import asyncio
import contextlib
import importlib
import json
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from xray2ctpa_core.errors import OutputError, XRay2CTPAError
from xray2ctpa_core.generation.failures import user_error
from xray2ctpa_core.io.result_folder import temporary_folder
from xray2ctpa_core.viewer import download
from xray2ctpa_core.viewer.security import HEADERS, Door
from xray2ctpa_core.viewer.session import Opening, Session
from xray2ctpa_core.viewer.upload import TooLarge, header_bytes

PAGE = Path(__file__).with_name("page")
SCRIPTS = ("page", "connection", "result", "views", "gestures", "measure", "screenshot", "triage", "upload")
#: All files of the page, by the address they are asked for with.
PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript") for name in SCRIPTS},
}
RESULT_ZIP, DICOM_ZIP = "/result.zip", "/result-dicom.zip"
FOLDER_PREFIX = "xray2ctpa-view-"
#: Sessions at a time that are watched or compute; each holds a scene and its views.
MAX_SESSIONS = 8
#: Sessions in all: one that nobody watches only has its results on the disk.
MAX_KEPT_SESSIONS = 64
#: Seconds after which a session that nobody watches and that computes nothing is closed: one without results
#: of its own, and one with them.
IDLE_SECONDS, KEEP_SECONDS = 1800.0, 7 * 86400.0
#: Seconds after which a result that nobody watches gives its views back.
REST_SECONDS = 120.0
_MESSAGE_BYTES = 1 << 14
_HEARTBEAT_SECONDS = 20.0


class SocketTab:
    """A browser tab behind a web socket. What has not been sent yet is replaced by what is newer."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._messages: dict[str, Mapping[str, Any]] = {}
        self._pictures: dict[str, bytes] = {}
        self._wake = asyncio.Event()

    def tell(self, kind: str, content: Mapping[str, Any]) -> None:
        self._messages[kind] = content
        self._wake.set()

    def show(self, name: str, picture: bytes) -> None:
        self._pictures[name] = picture
        self._wake.set()

    async def send_forever(self) -> None:
        """Sends what waits; a picture is the length of its view's name in a byte, the name, the image."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                messages, self._messages = self._messages, {}
                for kind, content in messages.items():
                    await self._socket.send_str(json.dumps({"kind": kind, **content}))
                while self._pictures:
                    name = next(iter(self._pictures))
                    picture = self._pictures.pop(name)
                    await self._socket.send_bytes(bytes([len(name)]) + name.encode() + picture)


class Site:
    """All sessions of one server.

    Args:
        door: who may come in.
        opening: what the command named.
        folder: private folder that holds a folder for each session.
    """

    def __init__(self, door: Door, opening: Opening, folder: Path) -> None:
        self._door, self._opening, self._folder = door, opening, folder
        self._sessions: dict[str, Session] = {}

    def application(self) -> web.Application:
        """The web application."""
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        app.router.add_routes(
            [
                *(web.get(path, self._page) for path in PAGE_FILES),
                web.get("/socket", self._socket),
                web.post("/upload", self._upload),
                *(web.get(path, self._download) for path in (RESULT_ZIP, DICOM_ZIP)),
            ]
        )
        return app

    async def close(self) -> None:
        """Ends every session."""
        for session in list(self._sessions.values()):
            await session.close()
        self._sessions.clear()

    async def close_idle_forever(self) -> None:
        """Lets sessions rest that nobody has watched for REST_SECONDS, and ends them after IDLE_SECONDS, or
        KEEP_SECONDS if results would be lost."""
        while True:
            await asyncio.sleep(REST_SECONDS / 4)
            await self.close_idle(time.monotonic())

    async def close_idle(self, now: float) -> None:
        """What ``close_idle_forever`` does at one time (of time.monotonic)."""
        for key, session in list(self._sessions.items()):
            if session.is_watched or session.is_busy:
                continue
            idle = now - session.last_seen
            if idle > (KEEP_SECONDS if session.has_results else IDLE_SECONDS):
                del self._sessions[key]
                await session.close()
            elif idle > REST_SECONDS:
                session.rest()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        self._door.refuse_strangers(request)
        response: web.StreamResponse = await handler(request)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        name, kind = PAGE_FILES[request.path]
        response = web.Response(body=(PAGE / name).read_bytes(), content_type=kind, charset="utf-8")
        if request.path != "/":
            return response
        if request.query:  # so that the token does not stay in the address
            response = web.Response(status=303, headers={"Location": "/"})
        if self._door.key_of(request) is None:
            if not self._door.admits(request):
                raise web.HTTPForbidden(
                    text="Open the address that `xray2ctpa view` printed, with its token. If you did: this "
                    "page needs a cookie, so allow cookies for this address."
                )
            key = self._door.new_key()
            response.set_cookie(self._door.cookie, key, httponly=True, samesite="Lax", path="/")
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """A tab looks: a visitor's session begins with his first one."""
        key = self._door.key_of(request)
        if key is None:
            raise web.HTTPForbidden(text="Open the page first.")
        session = self._sessions.get(key) or await self._new_session(key)
        answer = web.WebSocketResponse(max_msg_size=_MESSAGE_BYTES, heartbeat=_HEARTBEAT_SECONDS)
        await answer.prepare(request)
        tab = SocketTab(answer)
        sender = asyncio.create_task(tab.send_forever())
        session.attach(tab)
        try:
            async for message in answer:
                if message.type == WSMsgType.TEXT:
                    _act(session, tab, message.data)
        finally:
            session.detach(tab)
            sender.cancel()
        return answer

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        session = self._required_session(request)
        try:
            await session.receive(
                request.content.iter_chunked(1 << 16),
                request.query.get("name", ""),
                request.content_length,
                header_bytes(request.query.get("header", "")),
            )
        except (XRay2CTPAError, OSError) as error:
            status = 413 if isinstance(error, TooLarge) else 422
            return web.json_response(session.in_words(user_error(error)), status=status)
        return web.json_response({})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        session = self._required_session(request)
        entry = session.shown_entry()
        if entry is None:
            raise web.HTTPNotFound(text="There is no result yet.")
        try:
            if request.path == DICOM_ZIP:
                name, content = await asyncio.to_thread(download.dicom_zip, entry, session.folder)
            else:
                name, content = await asyncio.to_thread(download.result_zip, entry)
        except (XRay2CTPAError, OSError) as error:
            return web.json_response(session.in_words(user_error(error)), status=422)
        headers = {"Content-Disposition": download.attachment(name)}
        return web.Response(body=content, content_type="application/zip", headers=headers)

    def _required_session(self, request: web.Request) -> Session:
        session = self._sessions.get(self._door.key_of(request) or "")
        if session is None:
            raise web.HTTPForbidden(text="Open the page first.")
        return session

    async def _new_session(self, key: str) -> Session:
        leaving = [
            (session.has_results, session.last_seen, key)
            for key, session in self._sessions.items()
            if not session.is_watched and not session.is_busy
        ]
        if len(self._sessions) - len(leaving) >= MAX_SESSIONS:
            raise web.HTTPServiceUnavailable(text="Too many visitors at a time; try again later.")
        if len(self._sessions) >= MAX_KEPT_SESSIONS:
            await self._sessions.pop(min(leaving)[2]).close()
        for session in self._sessions.values():
            session.rest()  # so that memory depends on how many results are looked at
        self._sessions[key] = Session(self._folder / secrets.token_hex(8), self._opening)
        return self._sessions[key]


async def serve(
    opening: Opening, host: str, port: int, announce: Callable[[Door], None], folder: Path
) -> None:
    """Serves the page until the process is asked to end.

    Args:
        opening: what to show.
        host, port: where to listen; port 0 takes a free one.
        announce: called once it listens.
        folder: private folder for uploads and their results, empty.

    Raises:
        OutputError: the address is taken or not this machine's.
    """
    door = Door(host)
    site = Site(door, opening, folder)
    runner = web.AppRunner(site.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # Without such handlers (Windows), Ctrl-C ends the loop with KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError, AttributeError, RuntimeError):
            loop.add_signal_handler(getattr(signal, name), stop.set)
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise OutputError(
                f"Expected to listen at {host} port {port}, got: {error.strerror or error}.",
                "Choose another --port or --host.",
            ) from error
        door.port = runner.addresses[0][1]
        announce(door)
        chores = [asyncio.create_task(site.close_idle_forever()), asyncio.create_task(_get_ready())]
        await stop.wait()
        for chore in chores:
            chore.cancel()
    finally:
        await site.close()
        await runner.cleanup()


def run(opening: Opening, host: str, port: int, announce: Callable[[Door], None]) -> None:
    """Serves the page from a private temporary folder that is gone afterwards, even after a kill.

    Whatever libraries keep temporarily (slicer-core a folder an application) lies in it, too.
    """
    with temporary_folder(FOLDER_PREFIX) as folder:
        tempfile.tempdir = str(folder)
        os.environ.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)))
        asyncio.run(serve(opening, host, port, announce, folder))


async def _get_ready() -> None:
    """Loads Slicer's libraries and makes views ready, so that the first result opens sooner."""
    showing = await asyncio.to_thread(importlib.import_module, "xray2ctpa_core.viewer.showing")
    showing.warm_up()


def machine_name() -> str:
    """How other machines may call this one."""
    return socket.gethostname()


def _act(session: Session, tab: SocketTab, text: str) -> None:
    """Does what a message asks for; what it cannot mean is told to the tab that sent it."""
    try:
        message = json.loads(text)
        if isinstance(message, dict):
            session.act(message, tab)
    except (ValueError, RecursionError):
        return  # not JSON, or nested beyond measure: no page of ours
    except XRay2CTPAError as error:
        tab.tell("problem", {"text": error.message, "hint": error.hint})


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
