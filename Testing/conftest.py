"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images (``cxr``, ``pairs``, ``not_a_cxr``), which are never part of the repository.

    ``XRAY2CTPA_REAL_DATA`` names it; without that variable ``../shared/real`` beside the checkout is
    taken. Skips the test where the folder is absent.
    """
    folder = Path(os.environ.get("XRAY2CTPA_REAL_DATA", REPOSITORY.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set XRAY2CTPA_REAL_DATA to their folder")
    return folder
