"""Runs the real command in a process of its own, and holds it to the contract for errors."""

import os
import subprocess
import sys
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "X-ray2CTPACore"
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(CORE), os.environ.get("PYTHONPATH", "")])),
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
}
COMMAND = [sys.executable, "-m", "xray2ctpa_core"]


def xray2ctpa(*arguments: object, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs ``xray2ctpa ARGUMENTS`` in the folder ``cwd``."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def assert_refused(run: subprocess.CompletedProcess[str], code: int, *says: str) -> None:
    """The run ended with ``code`` and one or two lines on stderr that hold every text of ``says``."""
    lines = [line for line in run.stderr.splitlines() if not line.startswith("Warning: ")]
    assert run.returncode == code, run.stderr
    assert 1 <= len(lines) <= 2, run.stderr
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in run.stderr
    for text in says:
        assert text in run.stderr


def names(folder: Path) -> list[str]:
    """Everything in ``folder``, hidden files too."""
    return sorted(p.name for p in folder.iterdir())
