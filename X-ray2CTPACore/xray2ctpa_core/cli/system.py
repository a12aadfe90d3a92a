"""`xray2ctpa system`: software, devices and free memory of this machine."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.generation.result_json import software_versions


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser("system", help="list software and devices", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON on one line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    content: dict[str, Any] = {"software": software_versions(), "devices": devices()}
    if args.json:
        sys.stdout.write(json.dumps(content) + "\n")
        return EXIT_DONE
    for name, version in content["software"].items():
        sys.stdout.write(f"{name + ':':<17}{version or 'not installed'}\n")
    for device in content["devices"]:
        free = device["free_memory_mb"]
        memory = "free memory not known" if free is None else f"{free} MB free"
        sys.stdout.write(f"{device['device'] + ':':<17}{device['name']}, {memory}\n")
    return EXIT_DONE


def devices() -> list[dict[str, Any]]:
    """The devices that --device can name here, that of "auto" first, each with its free memory in MB."""
    import torch

    found: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        found.append(
            {"device": "cuda", "name": torch.cuda.get_device_name(), "free_memory_mb": int(free) >> 20}
        )
    found.append(
        {"device": "cpu", "name": f"{torch.get_num_threads()} threads", "free_memory_mb": free_memory_mb()}
    )
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU", "free_memory_mb": free_memory_mb()})
    return found


def free_memory_mb() -> int | None:
    """Memory available to programs in MB; None where the system does not report it."""
    if sys.platform == "win32":
        return _windows_free_memory_mb()
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) >> 10
    return None


def _windows_free_memory_mb() -> int | None:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
        )

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return None
    return int(status.free) >> 20
