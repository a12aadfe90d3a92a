"""Data for provenance: digests of files, versions of packages, memory used."""

import hashlib
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, as 64 hex digits; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 over the digests of several files, in the given order: one digest for a series of slices."""
    return hashlib.sha256("".join(file_sha256(path) for path in paths).encode()).hexdigest()


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Version of each package, None for one that is not installed as such."""
    return {package: _version(package) for package in packages}


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process, in MB; None if the system does not report it (Windows).

    Linux keeps the value of getrusage across exec, so that it may be the parent's; VmHWM is this process's
    own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / (1 << 10), 1)
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
