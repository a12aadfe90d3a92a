"""Fixtures of the module's tests: the application around slicer-core, and a bundle that generates."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pytest
from application import Slicer, running_slicer
from panels import OpenPanel


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slicer]:
    """The application with an empty scene."""
    with running_slicer(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def panel(app: Slicer) -> Iterator[OpenPanel]:
    """The module's panel, open in the application."""
    opened = OpenPanel(app)
    yield opened
    opened.close()
