"""A bundle as a user runs it: the command from start to complete result folder, in its own process; and the
first and the second radiograph through a resident worker."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xray2ctpa_core.benchmark.sides import child_environment
from xray2ctpa_core.benchmark.timing import ratios, spread
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io import result_files

#: Stages of result.json that count as start-up, as does the time before the first and after the last stage.
STARTING = ("read", "load")
#: Radiographs after the first in the command for several.
FURTHER = 4
#: Steps of the sampler that the papers use.
REFERENCE_STEPS = 1000


def measure_end_to_end(
    radiograph: Path,
    bundle: str,
    repeats: int,
    threads: int,
    device: str,
    progress: Callable[[str, int, int], None],
    steps: int | None = None,
) -> dict[str, Any]:
    """`xray2ctpa generate radiograph` by a bundle, ``repeats`` times.

    Args:
        radiograph: a frontal chest radiograph.
        bundle: name, folder or Hub id.
        repeats: runs, at least 1; without a warm-up, as for a user.
        threads: of the child process on a CPU.
        device: as for `generate`.
        progress: called with (what, done, of).
        steps: of the sampler; None for the bundle's.

    Returns:
        JSON-ready: steps, device, seconds of each ``stages``, ``total_s``, its processor time
        ``processor_s`` (0 where the system does not report it), and ``startup_s`` (all but the
        stages that work: imports, verifying, reading, loading, and the end of the process), each as Spread;
        peak_memory_mb; ``further_s`` of each radiograph after the first, where one command generates from
        1 + FURTHER, reading and writing included; reference_denoise_s, extrapolated to REFERENCE_STEPS
        steps; ``first_s`` and ``second_s``, a command that starts a resident worker and the next one, and
        ``second_of_first``.

    Raises:
        InputError: the command failed; the message says why.
    """
    totals, processor, records = [], [], []
    further: list[float] = []
    firsts: list[float] = []
    seconds_after: list[float] = []
    for number in range(repeats):
        before = _processor_seconds()
        seconds, record = _run(radiograph, bundle, threads, device, steps)
        processor.append(_processor_seconds() - before)
        totals.append(seconds)
        records.append(record)
        several, _ = _run(radiograph, bundle, threads, device, steps, further=FURTHER)
        further.append((several - seconds) / FURTHER)
        with _owner() as owner:
            for found in (firsts, seconds_after):
                found.append(_run(radiograph, bundle, threads, device, steps, owner)[0])
        progress("whole command", number + 1, repeats)
    stages = [record["seconds"] for record in records]
    working = [sum(s for name, s in each.items() if name not in STARTING) for each in stages]
    per_step = spread([each["denoise"] / records[0]["steps"] for each in stages]).median
    return {
        "bundle": bundle,
        "device": records[0]["device"],
        "steps": records[0]["steps"],
        "total_s": asdict(spread(totals)),
        "processor_s": asdict(spread(processor)),
        "further_s": asdict(spread(further)),
        "startup_s": asdict(spread([total - work for total, work in zip(totals, working, strict=True)])),
        "stages": {name: asdict(spread([each[name] for each in stages])) for name in stages[0]},
        "peak_memory_mb": records[-1]["peak_memory_mb"],
        "reference_denoise_s": per_step * REFERENCE_STEPS,
        "first_s": asdict(spread(firsts)),
        "second_s": asdict(spread(seconds_after)),
        "second_of_first": asdict(ratios(seconds_after, firsts)),
    }


def _processor_seconds() -> float:
    """Processor time of the child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def _owner() -> Iterator[int]:
    """Number of a process that waits; its resident worker ends with it."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def _run(
    radiograph: Path,
    bundle: str,
    threads: int,
    device: str,
    steps: int | None,
    owner: int | None = None,
    further: int = 0,
) -> tuple[float, dict[str, Any]]:
    """Seconds from start to end of one run, from the radiograph and so ``further`` often again, and the
    sampling settings in the last record; by the resident worker of process ``owner``, if there is one."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result"
        inputs = [str(radiograph)] * (1 + further)
        command = [sys.executable, "-m", "xray2ctpa_core", "generate", *inputs, "--out", str(out)]
        command += ["--bundle", bundle, "--device", device, *(["--steps", str(steps)] if steps else [])]
        command += ["--resident", str(owner)] if owner else []
        began = time.perf_counter()
        done = subprocess.run(
            command,
            env=child_environment(threads),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
            reason = lines[0].removeprefix("Error: ") if lines else f"exit code {done.returncode}"
            raise InputError(f"The command to be measured failed: {reason}")
        records = sorted(out.rglob(result_files.RECORD))
        return seconds, json.loads(records[-1].read_text(encoding="utf-8"))["sampling"]
