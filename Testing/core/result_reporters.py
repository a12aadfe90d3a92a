"""A reporter that keeps what it is told."""

from pathlib import Path
from typing import Any

from xray2ctpa_core.errors import XRay2CTPAError


class Kept:
    """Keeps folders of results and whether they were complete before, (step, of) of the progress, and
    warnings."""

    wants_previews = False

    def __init__(self) -> None:
        self.results: list[tuple[Path, bool]] = []
        self.steps: list[tuple[int, int]] = []
        self.warnings: list[str] = []

    def stage(self, name: str, message: str) -> None:
        pass

    def progress(self, stage: str, step: int, of: int, after_s: float = 0.0) -> None:
        self.steps.append((step, of))

    def preview(self, path: Path) -> None:
        pass

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def result(self, folder: Path, content: dict[str, Any], skipped: bool) -> None:
        self.results.append((folder, skipped))

    def error(self, error: XRay2CTPAError, source: str = "") -> None:
        raise AssertionError(f"{source}: {error.message}")
