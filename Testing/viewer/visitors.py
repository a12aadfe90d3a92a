"""The real command as a server in a process of its own, and visitors without a browser."""

import asyncio
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import aiohttp
import numpy as np
from cli_runs import COMMAND, ENVIRONMENT
from PIL import Image

#: Seconds that anything may take on a busy machine, and a whole visit.
PATIENCE, VISIT_SECONDS = 120.0, 300.0


@dataclass
class Page:
    """A running `xray2ctpa view`: its address, process, private temporary folder's parent, and what it wrote.

    It writes to files: a pipe that nobody reads is full one day, and open as long as some child keeps it.
    """

    process: subprocess.Popen[bytes]
    temporary: Path
    output: IO[bytes]
    complaints: IO[bytes]
    address: str = ""

    def said(self) -> str:
        """What it has written to its standard output so far."""
        return _content(self.output)

    def complained(self) -> str:
        """What it has written to its standard error so far."""
        return _content(self.complaints)

    def leftovers(self) -> list[Path]:
        """Every file and folder that the server has made and that is still there."""
        return sorted(self.temporary.rglob("*"))

    def children(self) -> list[int]:
        """Ids of the server's child processes that compute."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
                command = (status.parent / "cmdline").read_text()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid and "xray2ctpa_core" in command and "guard" not in command:
                found.append(int(status.parent.name))
        return found

    def end(self, how: signal.Signals = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Asks the server to end, and waits; one that does not end is made to say where it stands."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes where every thread stands
            self._kill()
            raise AssertionError(
                f"the server did not end within {seconds:.0f} s of {how.name}: {self.complained()[-4000:]}"
            ) from error

    def _kill(self) -> None:
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE)

    def await_address(self) -> None:
        """Waits until it has said where it listens."""
        ends = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://\S+(?=\s)", self.said())):
            assert self.process.poll() is None, f"the server has ended: {self.complained()}"
            assert time.monotonic() < ends, f"the server named no address: {self.complained()}"
            time.sleep(0.02)
        self.address = found[0]


@contextmanager
def served(temporary: Path, *arguments: object, command: str = "view") -> Iterator[Page]:
    """`xray2ctpa view ARGUMENTS` (or another command), its temporary files in the folder ``temporary``."""
    temporary.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [*COMMAND, command, *map(str, arguments)],
            env=ENVIRONMENT | {"TMPDIR": str(temporary), "PYTHONFAULTHANDLER": "1"},
            cwd=temporary,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
        )
        page = Page(process, temporary, output, complaints)
        try:
            page.await_address()
            yield page
        finally:
            page.end()


def _content(file: IO[bytes]) -> str:
    """All of a file that another process writes; reading leaves its position alone."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode("utf-8", errors="replace")


@dataclass
class Visitor:
    """A visitor with a session; keeps the last message of each kind and the last picture of each view."""

    session: aiohttp.ClientSession
    address: str
    socket: aiohttp.ClientWebSocketResponse
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def state(self) -> dict[str, Any]:
        return self.told.get("state", {})

    def situation(self) -> str:
        """Where the visitor stands, in words."""
        phase, message = self.state.get("phase"), self.state.get("message")
        return f"in phase {phase} with message {message}, told {[*self.told]}, shown {[*self.pictures]}"

    async def do(self, what: str, **how: Any) -> None:
        await self.socket.send_str(json.dumps({"do": what, **how}))

    async def hear(self) -> None:
        """Takes in the next message; `receive` has no time limit, as one would begin anew with every ping."""
        message = await self.socket.receive()
        if message.type == aiohttp.WSMsgType.BINARY:
            length = message.data[0]
            self.pictures[message.data[1 : 1 + length].decode()] = message.data[1 + length :]
        elif message.type == aiohttp.WSMsgType.TEXT:
            content = json.loads(message.data)
            self.told[content["kind"]] = content
            if content["kind"] == "problem":
                self.problems.append(content["text"])
        else:
            raise ConnectionError(f"the socket has closed: {message.type}")

    async def until(self, happened: Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Takes messages in until ``happened`` is true."""
        try:
            async with asyncio.timeout(seconds):
                while not happened():
                    await self.hear()
        except TimeoutError as error:
            raise AssertionError(f"waited in vain {self.situation()}") from error

    async def phase(self, *names: str) -> None:
        await self.until(lambda: self.state.get("phase") in names)

    async def upload(self, content: bytes, name: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of an upload."""
        async with self.session.post(f"{self.address}upload", params={"name": name}, data=content) as answer:
            return answer.status, await answer.json(content_type=None)

    async def picture(self, name: str, width: int = 300, height: int = 300) -> np.ndarray:
        """What a view of an opened result shows at a size: (rows, columns, RGB)."""
        await self.phase("done")
        self.pictures.pop(name, None)
        await self.do("resize", view=name, x=width, y=height)
        await self.until(lambda: name in self.pictures)
        return decoded(self.pictures[name])


def decoded(picture: bytes) -> np.ndarray:
    with Image.open(BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def visiting(address: str, visit: Callable[[Visitor], Awaitable[None]]) -> None:
    """Runs ``visit`` as a new visitor of the page at ``address``."""

    async def run() -> None:
        async with newcomer() as session, await entered(session, address) as socket:
            visitor = Visitor(session, plain(address), socket)
            try:
                async with asyncio.timeout(VISIT_SECONDS):
                    await visit(visitor)
            except TimeoutError as error:
                raise AssertionError(
                    f"the visit did not end within {VISIT_SECONDS:.0f} s {visitor.situation()}"
                ) from error

    asyncio.run(run())


def newcomer() -> aiohttp.ClientSession:
    """Somebody without a cookie, who keeps one even for an address that is a number."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


def plain(address: str) -> str:
    """The address without its token."""
    return address.split("?")[0]


async def entered(session: aiohttp.ClientSession, address: str) -> aiohttp.ClientWebSocketResponse:
    """Opens the page, then its socket."""
    async with session.get(address) as answer:
        assert answer.status == 200, await answer.text()
    return await session.ws_connect(f"{plain(address)}socket", max_msg_size=0)


def is_gone(process_id: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def wait_for(happened: Callable[[], Any], seconds: float = PATIENCE) -> None:
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)
