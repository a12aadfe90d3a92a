"""Expected time and memory of a run, from earlier runs on this machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import qt

#: Group of the user's settings with the measured numbers, by bundle and device.
SETTINGS_GROUP = "XRay2CTPA/Timings"
#: Stages of result.json whose time grows with the steps, and with the samples.
PER_STEP, PER_SAMPLE = ("denoise",), ("decode", "classify")


@dataclass(frozen=True)
class Expectation:
    """Seconds of a run, start included, and its peak memory in MB (None if unknown)."""

    seconds: float
    memoryMb: float | None

    def text(self) -> str:
        """As text: "about 40 s, 1.2 GB of memory"."""
        seconds = round(self.seconds)
        time = f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"
        memory = f", {self.memoryMb / 1024:.1f} GB of memory" if self.memoryMb else ""
        return f"about {time}{memory}"


def remember(record: Mapping[str, Any], seconds: float, askedDevice: str) -> None:
    """Saves the time and memory of the run with the record ``record`` (result.json), ``seconds`` from start
    to end."""
    sampling = record["sampling"]
    spent = sampling["seconds"]
    perStep = sum(spent.get(stage, 0.0) for stage in PER_STEP) / (sampling["steps"] * sampling["samples"])
    perSample = sum(spent.get(stage, 0.0) for stage in PER_SAMPLE) / sampling["samples"]
    repeated = (perStep * sampling["steps"] + perSample) * sampling["samples"]
    measured = {
        "fixed": max(0.0, seconds - repeated),
        "step": perStep,
        "sample": perSample,
        "memory": sampling.get("peak_memory_mb"),
    }
    for device in {askedDevice, sampling["device"]}:
        qt.QSettings().setValue(_key(record["bundle"]["sha256"], device), json.dumps(measured))


def expected(bundleSha256: str, device: str, steps: int, samples: int) -> Expectation | None:
    """Expectation of a run, from the last one with this bundle on this device; None before the first."""
    text = qt.QSettings().value(_key(bundleSha256, device))
    if not text:
        return None
    try:
        measured = json.loads(str(text))
        seconds = measured["fixed"] + samples * (measured["sample"] + steps * measured["step"])
        return Expectation(float(seconds), measured["memory"])
    except (ValueError, KeyError, TypeError):
        return None  # written by another version: treated as not measured


def _key(bundleSha256: str, device: str) -> str:
    return f"{SETTINGS_GROUP}/{bundleSha256[:16]}/{device}"
