"""Fixtures of the page's tests: a real result, a browser. Without the extra `viewer` they are left out."""

import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import xray2ctpa
from scenes import write_result

from xray2ctpa_core.cli.view import VIEWER_PACKAGES
from xray2ctpa_core.generation.samples import SAMPLE_CXR

# Mesa's software renderer and Triton (a part of torch) each bring LLVM; a process crashes that loads Triton's
# after Mesa's. The page's own process never loads torch; that of the tests does, so Triton comes first.
if importlib.util.find_spec("triton") is not None:
    importlib.import_module("triton")

MISSING = [name for name in VIEWER_PACKAGES if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says which packages are missing instead of failing where the extra is not installed."""
    if MISSING:
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason=f"the extra viewer is missing: {', '.join(MISSING)}"))


@pytest.fixture(scope="session")
def pictures(repository: Path) -> Path:
    """Folder of the pictures that tests leave to look at."""
    folder = repository / "build" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page that shows the small result; every visitor has a session of their own."""
    from visitors import served

    folder = tmp_path_factory.mktemp("shown")
    with served(folder / "temporary", write_result(folder / "result")) as page:
        yield page


@pytest.fixture
def small_result(tmp_path: Path) -> Path:
    """One bright, hot voxel in air, superior, in front, on the patient's left."""
    return write_result(tmp_path / "result")


@pytest.fixture(scope="session")
def real_result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the embedded bundle makes of the packaged sample radiograph in a few steps."""
    folder = tmp_path_factory.mktemp("real") / "result"
    run = xray2ctpa("generate", SAMPLE_CXR, "--out", folder, "--steps", 2, cwd=folder.parent)
    assert run.returncode == 0, run.stderr
    return folder


def browser_of(kind: str, folder: Path) -> Iterator[Any]:
    """A headless browser, or a visible skip where there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    import browsers

    program = browsers.program_of(kind)
    if program is None:
        pytest.skip(f"no {kind} on this machine")
    if kind == browsers.FIREFOX:
        program = str(browsers.firefox_program(program, folder))
    made = browsers.Browser(kind, program)
    yield made
    made.close()


@pytest.fixture(scope="module")  # its event loop is in the way of asyncio.run
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium."""
    yield from browser_of("chromium", tmp_path_factory.mktemp("chromium"))


@pytest.fixture(scope="module")
def browser_kind() -> str:
    """Chromium, or the browser that XRAY2CTPA_BROWSER names (firefox)."""
    return os.environ.get("XRAY2CTPA_BROWSER", "chromium")


@pytest.fixture(scope="module")
def chosen_browser(browser_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The headless browser of a file's tests."""
    yield from browser_of(browser_kind, tmp_path_factory.mktemp(browser_kind))


@pytest.fixture
def browser(chosen_browser: Any) -> Iterator[Any]:
    """A browser for one test, which fails when it no longer moves."""
    with chosen_browser.watched() as opened:
        yield opened
