"""The page in headless Firefox, driven by Marionette: it opens, is drawn and scrolls without a complaint."""

import importlib.util
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from scenes import write_result
from visitors import PATIENCE, served, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PREFERENCES = """user_pref("marionette.port", {port});
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
"""


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Any]:
    """Headless Firefox, or a visible skip where there is none."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("no firefox on this machine")
    if importlib.util.find_spec("marionette_driver") is None:
        pytest.skip("marionette-driver is not installed")
    from marionette_driver.marionette import Marionette

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "user.js").write_text(PREFERENCES.format(port=port))
    process = subprocess.Popen(
        [program, "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    driver = Marionette(host="127.0.0.1", port=port, socket_timeout=PATIENCE, startup_timeout=PATIENCE)
    try:
        wait_for(lambda: is_listening(port) or process.poll() is not None)
        assert process.poll() is None, f"firefox has ended with status {process.poll()}"
        driver.start_session()
        driver.set_window_rect(width=1280, height=900)
        yield driver
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_page_works_in_firefox(firefox, tmp_path):
    with served(tmp_path / "temporary", write_result(tmp_path / "result")) as page:
        firefox.navigate(page.address)
        ask = firefox.execute_script
        ask("window.complaints = []; addEventListener('error', e => complaints.push(e.message));",
            sandbox=None)  # fmt: skip
        wait_for(lambda: ask("return document.body.dataset.phase") == "done")
        drawn = "return document.querySelectorAll('.view canvas[data-drawn]').length"
        wait_for(lambda: ask(drawn) == 5)
        number = "return document.querySelector('[data-view=Red] .number').textContent"
        assert ask(number) == "13 / 16"
        ask(
            "const box = document.querySelector('[data-view=Red] .box');"
            "box.dispatchEvent(new WheelEvent('wheel', {deltaY: 3, deltaMode: 1, cancelable: true}))"
        )
        wait_for(lambda: ask(number) == "12 / 16")
        ask("document.querySelector('[data-view=Red] .maximise').click()")
        widths = "return [...document.querySelectorAll('.box')].filter((box) => box.clientWidth > 0).length"
        assert ask(widths) == 1
        assert ask("return document.querySelector('[data-view=Red] .box').clientWidth") > 700
        assert ask("return window.complaints", sandbox=None) == []
