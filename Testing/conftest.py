"""Fixtures that every test folder shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="module", autouse=True)
def no_worker_stays() -> Iterator[None]:
    """Ends the resident worker that the panel or the page of these tests has started, with its memory."""
    yield
    owned = ["serve", "--owner", str(os.getpid())]
    workers = [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-3:] == owned]
    for worker in workers:
        worker.terminate()
    psutil.wait_procs(workers, timeout=20)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real radiographs, or a visible skip where this machine has none.

    XRAY2CTPA_REAL_DATA names it; otherwise ``shared/real`` beside the checkout is looked for.
    """
    named = os.environ.get("XRAY2CTPA_REAL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip(f"no real radiographs at {named or '../shared/real'}; set XRAY2CTPA_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def pipeline_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of real networks at tiny size with random weights."""
    from tiny_bundle import write_tiny_pipeline

    return write_tiny_pipeline(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles that `xray2ctpa convert x-ray2ctpa` made: "whole", and "without classifier"."""
    from published_system import converted_bundles

    return converted_bundles(tmp_path_factory.mktemp("converted"))
