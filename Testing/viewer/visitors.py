"""The real command as a server in a process of its own, and visitors without a browser."""

import asyncio
import json
import re
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from cli_runs import COMMAND, ENVIRONMENT
from PIL import Image

#: Seconds that anything may take on a busy machine.
PATIENCE = 120.0


@dataclass
class Page:
    """A running `xray2ctpa view`: its address, process and private temporary folder's parent."""

    address: str
    process: subprocess.Popen[str]
    temporary: Path

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

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Asks the server to end, and waits."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(PATIENCE)


@contextmanager
def served(temporary: Path, *arguments: object, command: str = "view") -> Iterator[Page]:
    """`xray2ctpa view ARGUMENTS` (or another command), its temporary files in the folder ``temporary``."""
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*COMMAND, command, *map(str, arguments)],
        env=ENVIRONMENT | {"TMPDIR": str(temporary)},
        cwd=temporary,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    found = None
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            break
    page = Page(found[0] if found else "", process, temporary)
    try:
        assert found, process.stderr.read()
        yield page
    finally:
        page.end()
        process.stdout.close()
        process.stderr.close()


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

    async def do(self, what: str, **how: Any) -> None:
        await self.socket.send_str(json.dumps({"do": what, **how}))

    async def hear(self) -> None:
        """Takes in the next message."""
        message = await self.socket.receive(PATIENCE)
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

    async def until(self, happened: Callable[[], Any]) -> None:
        """Takes messages in until ``happened`` is true."""
        ends = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < ends, f"waited in vain; the state is {self.state}"
            await self.hear()

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
            await visit(Visitor(session, plain(address), socket))

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
