"""A headless browser for the tests of a file: ended, with a clear failure, when it no longer moves.

Most calls of playwright have a time limit; evaluating, moving the mouse, opening and closing have none.
"""

import shlex
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Error, sync_playwright

#: Seconds that a test with its servers may take before its browser is ended, and its driver after that.
BROWSER_SECONDS, DRIVER_SECONDS = 300.0, 20.0
CHROMIUM, FIREFOX = "chromium", "firefox"
#: Names of each one's program.
PROGRAMS = {
    CHROMIUM: ("chromium", "chromium-browser", "google-chrome"),
    FIREFOX: ("firefox-esr", "firefox"),
}
FLAGS = ("--no-sandbox", "--disable-gpu")


def program_of(kind: str) -> str | None:
    """Path of a browser's program; None where there is none on this machine."""
    return next(filter(None, map(shutil.which, PROGRAMS[kind])), None)


def firefox_program(program: str, folder: Path) -> Path:
    """A program in ``folder`` that runs Firefox as playwright can drive it."""
    relay = Path(__file__).with_name("firefox_relay.py")
    made = folder / "firefox"
    made.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(relay), program])} "$@"\n')
    made.chmod(0o700)
    return made


class Browser:
    """Playwright and a browser, started when they are first asked for, and anew after they were ended.

    Args:
        kind: CHROMIUM or FIREFOX.
        program: path of its program.
    """

    def __init__(self, kind: str, program: str) -> None:
        self.kind, self._program = kind, program
        self._playwright: Any = None
        self._browser: Any = None
        self._driver: psutil.Process | None = None

    def browser(self) -> Any:
        """The browser that runs."""
        if self._browser is not None and not self._browser.is_connected():
            self.close()  # it has crashed
        if self._browser is None:
            former = set(psutil.Process().children())
            self._playwright = sync_playwright().start()
            [self._driver] = set(psutil.Process().children()) - former
            self._browser = self._launch()
        return self._browser

    def _launch(self) -> Any:
        if self.kind == CHROMIUM:
            return self._playwright.chromium.launch(executable_path=self._program, args=[*FLAGS])
        return self._playwright.firefox.launch(executable_path=self._program, channel="moz-firefox")

    @contextmanager
    def watched(self, seconds: float = BROWSER_SECONDS) -> Iterator[Any]:
        """A browser for one test, which fails if that takes longer; what it waits for then raises at once."""
        browser = self.browser()
        is_over, was_ended = threading.Event(), threading.Event()

        def watch() -> None:
            if not is_over.wait(seconds):
                was_ended.set()
                self._kill_browser()
                if not is_over.wait(DRIVER_SECONDS):
                    self._kill_driver()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield browser
        finally:
            is_over.set()
            watcher.join(DRIVER_SECONDS)
            if was_ended.is_set():
                self.close()
        if was_ended.is_set():
            pytest.fail(f"the browser did not come to an end within {seconds:.0f} s and was ended")

    def close(self) -> None:
        """Ends the browser and playwright, whatever state they are in."""
        with self._ended_if_it_hangs():
            for part in (self._browser and self._browser.close, self._playwright and self._playwright.stop):
                try:
                    if part:
                        part()
                except Error:
                    continue  # it has ended before
        self._playwright = self._browser = self._driver = None

    @contextmanager
    def _ended_if_it_hangs(self) -> Iterator[None]:
        timer = threading.Timer(DRIVER_SECONDS, self._kill_driver)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill_browser(self) -> None:
        for process in self._descendants():
            _kill(process)

    def _kill_driver(self) -> None:
        self._kill_browser()
        if self._driver is not None:
            _kill(self._driver)

    def _descendants(self) -> list[psutil.Process]:
        try:
            return self._driver.children(recursive=True) if self._driver is not None else []
        except psutil.NoSuchProcess:
            return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
