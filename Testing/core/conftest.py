"""Fixtures of the core's tests: disks that are small or read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory mounted at ``folder``, or a visible skip where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        failed = subprocess.run(command, capture_output=True, text=True).returncode != 0
    except OSError:
        failed = True
    if failed:
        pytest.skip("mounting a file system in memory needs root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


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
