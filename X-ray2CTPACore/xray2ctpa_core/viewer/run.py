"""The core's command in a separate process: its events and its end."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.channel import PLACE_VARIABLE

#: Largest number of bytes of one line of the command's output.
_LINE_BYTES = 4 << 20
#: Increase of the niceness of a computation, so that the page has priority.
_NICENESS = 10
#: Smallest and largest value of the integers that a visitor may choose.
LIMITS = {"steps": (1, 250), "samples": (1, 16), "seed": (0, 2**31 - 1)}
#: Texts for the stages.
STAGES = {
    "verify": "Verifying the bundle",
    "wait": "Waiting for another run to end",
    "read": "Reading the radiograph",
    "load": "Loading the bundle",
    "generate": "Generating",
    "write": "Writing the result",
}


@dataclass
class Progress:
    """Progress of a run according to its events so far.

    Attributes:
        stage: description of the present stage.
        fraction: 0..1 of the sampling; None before it starts.
        seconds_left: of the sampling, None where that is not known.
        warnings: sentences.
    """

    stage: str = "Starting"
    fraction: float | None = None
    seconds_left: float | None = None
    warnings: list[str] = field(default_factory=list)


async def check(radiograph: Path, bundle: str, scratch: Path) -> dict[str, Any]:
    """Output of ``xray2ctpa check --json`` for a radiograph.

    Args:
        radiograph: the radiograph.
        bundle: name or folder.
        scratch: private folder for temporary files.

    Raises:
        InputError: the command failed, with what it said.
    """
    lines: list[str] = []
    code, errors = await _run_core(
        ["check", str(radiograph), "--bundle", bundle, "--json"], scratch, lines.append
    )
    if code != EXIT_DONE or not lines:
        raise _failure(code, errors)
    verdict: dict[str, Any] = json.loads(lines[-1])
    return verdict


async def generate(
    radiograph: Path,
    out: Path,
    bundle: str,
    wishes: Mapping[str, Any],
    progress: Progress,
    on_change: Callable[[Path | None], None],
) -> None:
    """Generates a volume from ``radiograph`` into ``out``; cancelling the task ends the process and all its
    children.

    Args:
        radiograph: the radiograph.
        out: new result folder; temporary files are beside it.
        bundle: name or folder.
        wishes: steps, samples and seed within LIMITS, each optional; force, a bool.
        progress: updated during the run.
        on_change: called after every event, with the path of a new preview.

    Raises:
        InputError: wrong wishes, or the command failed; with its message.
    """
    arguments = [
        "generate",
        str(radiograph),
        "--out",
        str(out),
        "--bundle",
        bundle,
        "--events",
        "--resident",
        str(os.getpid()),
        *_flags(wishes),
    ]
    failures: list[InputError] = []

    def on_line(line: str) -> None:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            return  # output of some library
        picture = None
        if kind == "stage":
            progress.stage = STAGES.get(event["stage"], event["message"])
            progress.fraction = progress.seconds_left = None
        elif kind == "progress":
            progress.fraction, progress.seconds_left = event["step"] / event["of"], event["eta_s"]
        elif kind == "preview":
            picture = Path(event["path"])
        elif kind == "warning":
            progress.warnings.append(event["message"])
        elif kind == "error":
            failures.append(InputError(event["message"], event["hint"]))
        on_change(picture)

    code, errors = await _run_core(arguments, out.parent, on_line)
    if code != EXIT_DONE:
        raise failures[0] if failures else _failure(code, errors)


def _flags(wishes: Mapping[str, Any]) -> list[str]:
    """Flags of ``generate``; raises InputError for values beyond LIMITS."""
    flags = []
    for name, (low, high) in LIMITS.items():
        value = wishes.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"Expected {name} from {low} to {high}, got {value!r}.", "Choose another.")
        flags += [f"--{name}", str(value)]
    return flags + (["--force"] if wishes.get("force") is True else [])


async def _run_core(
    arguments: Sequence[str], scratch: Path, on_line: Callable[[str], None]
) -> tuple[int, str]:
    """Runs ``xray2ctpa ARGUMENTS``; returns its exit code and its stderr.

    If this process is killed, the command ends by itself at its next event.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # so that a user's random.py in the working folder does not replace Python's
        "-m",
        "xray2ctpa_core",
        *arguments,
        env=_environment() | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=_LINE_BYTES,
        start_new_session=os.name != "nt",
    )
    _give_way(process.pid)
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.ensure_future(process.stderr.read())
    try:
        async for line in process.stdout:
            on_line(line.decode("utf-8", errors="replace"))
        said = (await errors).decode("utf-8", errors="replace")
        return await process.wait(), said
    finally:
        errors.cancel()
        _kill(process)
        await process.wait()


def _give_way(process_id: int) -> None:
    """Gives a computation a lower priority than the page, which uses the same cores."""
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process_id, _NICENESS)


def _kill(process: asyncio.subprocess.Process) -> None:
    """Ends the process and its children at once, if it still runs."""
    if process.returncode is not None:
        return
    if os.name == "nt":
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """This process's environment with this core first, and without network for libraries that fetch
    weights."""
    core = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [core, os.environ.get("PYTHONPATH", "")]))
    return os.environ | {
        PLACE_VARIABLE: os.environ.get(PLACE_VARIABLE) or tempfile.gettempdir(),
        "PYTHONPATH": paths,
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _failure(code: int, errors: str) -> InputError:
    """The error message on a command's stderr, or an error that it ended without one."""
    lines = errors.strip().splitlines()
    first = next((n for n, line in enumerate(lines) if line.startswith("Error: ")), None)
    if first is None:
        return InputError(
            f"The computation ended without a result (exit code {code}).",
            "Another program may have ended it, or memory ran out: try again.",
        )
    return InputError(lines[first].removeprefix("Error: "), " ".join(lines[first + 1 :]))
