"""Fixtures of the core's tests: disks that are small or read-only, a bundle that generates."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    with mounted(tmp_path / "small-disk", "size=8m") as folder:
        yield folder


@pytest.fixture
def read_only_place(tmp_path: Path) -> Iterator[Path]:
    """A folder that this user cannot write to; root needs a read-only disk for that."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        with mounted(tmp_path / "read-only", "ro") as folder:
            yield folder
        return
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this system lets its user write to a read-only folder")
    yield folder
    folder.chmod(0o755)
