"""One side in its own process: its start-up time and its peak memory.

Run as ``python -m xray2ctpa_core.benchmark.child PRECISION STARTED LATENTS``; prints a JSON object.
"""

import json
import subprocess
import sys
import time

from xray2ctpa_core.errors import DeviceError

#: Stands for the reference in place of a precision.
REFERENCE_SIDE = "reference"


def start_and_memory(side: str, latents: tuple[int, ...], threads: int) -> dict[str, float | None]:
    """Starts ``side`` ("reference", "fp32" or "bf16") in a child process, which computes one pass on the CPU.

    Returns:
        startup_s, from the start of the process to the network being ready, and peak_memory_mb (None if the
        system does not report it).

    Raises:
        DeviceError: the child failed.
    """
    from xray2ctpa_core.benchmark.sides import child_environment

    sizes = ",".join(map(str, latents))
    command = [sys.executable, "-m", "xray2ctpa_core.benchmark.child", side, repr(time.time()), sizes]
    done = subprocess.run(
        command, env=child_environment(threads), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DeviceError(f"The bench's child process for {side} failed: {last[:200]}", "Try --quick.")
    return json.loads(done.stdout.splitlines()[-1])


def measure(side: str, started: float, latents: tuple[int, int, int, int]) -> dict[str, float | None]:
    """Runs in the child process; returns the same."""
    import torch

    from xray2ctpa_core.benchmark import sides
    from xray2ctpa_core.io.provenance import peak_memory_mb

    inputs = sides.given(sides.Scale(latents), 0, torch.device("cpu"))
    weights = sides.paper_weights(None, 0)
    if side == REFERENCE_SIDE:
        run = sides.reference_pass(weights, inputs)
    else:
        run = sides.our_pass(sides.our_network(weights, side, torch.device("cpu")), inputs)
    startup = time.time() - started
    run()
    return {"startup_s": startup, "peak_memory_mb": peak_memory_mb()}


if __name__ == "__main__":
    given_latents = tuple(int(size) for size in sys.argv[3].split(","))
    answer = measure(sys.argv[1], float(sys.argv[2]), given_latents)  # type: ignore[arg-type]
    sys.stdout.write(json.dumps(answer) + "\n")
