"""Firefox for playwright's channel moz-firefox, as a program: `python firefox_relay.py FIREFOX ARGUMENTS`.

Playwright drives a released Firefox by WebDriver BiDi, and asks every context for one thing (a colour scheme)
that Firefox's long-term release does not know yet. This starts Firefox and relays its messages; what Firefox
does not know is answered here.
"""

import asyncio
import json
import re
import signal
import sys

import aiohttp
from aiohttp import WSMsgType, web

#: Commands that change nothing that these tests look at.
UNKNOWN_TO_FIREFOX = {"emulation.setMediaFeaturesOverride"}
_LISTENING = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")


async def run(program: str, arguments: list[str]) -> int:
    """Runs Firefox until it ends, and returns its exit status."""
    firefox = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, firefox.kill)
    assert firefox.stderr is not None
    found = None
    async for line in firefox.stderr:
        if found is None and (found := _LISTENING.search(line)):
            port = await listen(f"{found[1].decode()}/session")
            sys.stderr.write(f"WebDriver BiDi listening on ws://127.0.0.1:{port}\n")
            sys.stderr.flush()
    return await firefox.wait()


async def listen(target: str) -> int:
    """Relays sockets to ``target``; returns the port."""

    async def relay(request: web.Request) -> web.WebSocketResponse:
        near = web.WebSocketResponse(max_msg_size=0)
        await near.prepare(request)
        async with aiohttp.ClientSession() as session, session.ws_connect(target, max_msg_size=0) as far:
            answers = asyncio.create_task(answer(near, far))
            async for message in near:
                if message.type == WSMsgType.TEXT:
                    await pass_on(message.data, near, far)
            await far.close()
            await answers
        return near

    site = web.Application()
    site.router.add_get("/session", relay)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


async def pass_on(command: str, near: web.WebSocketResponse, far: aiohttp.ClientWebSocketResponse) -> None:
    """Sends a command to Firefox, or answers that it is done."""
    content = json.loads(command)
    if content.get("method") in UNKNOWN_TO_FIREFOX:
        await near.send_str(json.dumps({"type": "success", "id": content["id"], "result": {}}))
    else:
        await far.send_str(command)


async def answer(near: web.WebSocketResponse, far: aiohttp.ClientWebSocketResponse) -> None:
    """Sends playwright what Firefox says, until it says no more."""
    async for message in far:
        if message.type == WSMsgType.TEXT:
            await near.send_str(message.data)
    await near.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1], sys.argv[2:])))
