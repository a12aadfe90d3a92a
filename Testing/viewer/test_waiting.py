"""What the tests of the page wait for has an end: a stopped browser and a deaf server become failures."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("playwright")

import browsers
from aiohttp import test_utils, web
from visitors import Page, Visitor, is_gone, wait_for


@pytest.mark.browser
@pytest.mark.parametrize("part", ["chrom", "node"], ids=["browser", "driver"])
def test_what_no_longer_moves_fails_its_test_and_the_next_one_gets_another(chromium, monkeypatch, part):
    def evaluate_in_what_is_stopped() -> None:
        with chromium.watched(seconds=2) as browser:
            page = browser.new_page()
            for process in psutil.Process().children(recursive=True):
                if part in process.name():
                    stopped.append(process.pid)
                    process.suspend()
            page.evaluate("1 + 1")

    monkeypatch.setattr(browsers, "DRIVER_SECONDS", 3.0)
    stopped: list[int] = []
    began = time.monotonic()
    with pytest.raises(Exception, match="closed"):
        evaluate_in_what_is_stopped()
    assert time.monotonic() - began < 60
    assert stopped
    wait_for(lambda: all(is_gone(process) for process in stopped), 20)
    monkeypatch.undo()
    with chromium.watched() as browser:
        assert browser.new_page().evaluate("1 + 1") == 2


@pytest.mark.browser
def test_a_test_that_takes_too_long_beside_its_browser_fails(chromium):
    with pytest.raises(pytest.fail.Exception, match="within 0 s"), chromium.watched(seconds=0.1):
        time.sleep(1)


def test_a_server_that_does_not_end_is_ended_and_says_where_it_stood(tmp_path):
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('http://deaf/ ', flush=True)\n"
        "def be_deaf(): time.sleep(300)\n"
        "be_deaf()"
    )
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONFAULTHANDLER": "1"},
            stdout=output,
            stderr=complaints,
        )
        page = Page(process, tmp_path, output, complaints)
        page.await_address()
        assert page.address == "http://deaf/"
        with pytest.raises(AssertionError, match="did not end within 1 s of SIGTERM") as failure:
            page.end(seconds=1)
        assert "be_deaf" in str(failure.value)
        assert process.returncode == -signal.SIGABRT


def test_a_visitor_who_waits_in_vain_fails_although_the_server_asks_whether_he_is_there():
    async def silent(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=0.2)
        await socket.prepare(request)
        await socket.receive()
        return socket

    async def visit() -> None:
        site = web.Application()
        site.router.add_get("/socket", silent)
        async with (
            test_utils.TestServer(site) as server,
            test_utils.TestClient(server) as client,
            client.ws_connect("/socket") as socket,
        ):
            visitor = Visitor(client.session, "", socket)
            with pytest.raises(AssertionError, match="waited in vain"):
                await visitor.until(lambda: False, seconds=1.0)

    asyncio.run(asyncio.wait_for(visit(), 30))
