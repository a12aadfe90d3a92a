"""A writer of cases that kills its process; in a file of its own, for the workers import it by name."""

import os
import signal
from pathlib import Path
from typing import Any

from xray2ctpa_core.data.sources.study import Study


def write_or_die(study: Study, folder: Path) -> dict[str, Any]:
    """Kills its process for the study "poison" each time, for "preempted" the first time."""
    mark = folder.parents[2] / "was-preempted"
    if study.id == "poison" or (study.id == "preempted" and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"said": study.id}
