"""David Clunie's dciodvfy, which says what in a DICOM file breaks the standard."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def faults(path: Path) -> list[str]:
    """Errors that dciodvfy finds; skips the test where it is not installed."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    validator = shutil.which("dciodvfy", path=beside)
    if validator is None:
        pytest.skip("the package dicom3tools brings the validator")
    run = subprocess.run([validator, "-new", str(path)], capture_output=True, text=True, check=False)
    assert "CTImage" in run.stderr + run.stdout or "ParametricMap" in run.stderr + run.stdout
    return [line for line in (run.stderr + run.stdout).splitlines() if line.startswith("Error")]
