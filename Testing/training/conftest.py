"""Tests of training share a process: each begins as a process of its own would."""

import pytest


@pytest.fixture(autouse=True)
def fresh_accelerator() -> None:
    """accelerate keeps the first precision that a process asked for."""
    state = pytest.importorskip("accelerate.state", reason="training needs the training extra")
    state.AcceleratorState._reset_state(reset_partial_state=True)
