"""A batch on a cluster: each worker loads the bundle once, and each case is written by one worker."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xray2ctpa_core.cluster import on_cluster
from xray2ctpa_core.errors import DeviceError, OutputError, XRay2CTPAError
from xray2ctpa_core.generation.batch import Case, attempt
from xray2ctpa_core.generation.events import Reporter
from xray2ctpa_core.generation.job import Generator
from xray2ctpa_core.generation.settings import Settings
from xray2ctpa_core.io import result_files
from xray2ctpa_core.pipelines.bundle import verify_bundle


@dataclass
class _Made:
    """A worker's outcome of a case.

    Attributes:
        warnings: sentences.
        result: folder, content of result.json, and whether it existed before; None after a failure.
        failure: its error, or None.
    """

    warnings: list[str] = field(default_factory=list)
    result: tuple[Path, dict[str, Any], bool] | None = None
    failure: XRay2CTPAError | None = None


def generate_on_cluster(
    bundle: Path,
    settings: Settings,
    cases: Sequence[Case],
    spec: str,
    reporter: Reporter,
    prepare: Callable[[], None],
) -> Iterator[tuple[Case, XRay2CTPAError | None]]:
    """Yields each case with its error or None, when it is done.

    Args:
        bundle: verified folder, which all workers reach.
        settings: of the generation.
        cases: absolute paths that all workers reach.
        spec: workers (see `cluster.on_cluster`).
        reporter: receives warnings, results and the number of finished cases.
        prepare: a module's function that each worker calls once before it loads the bundle.

    Raises:
        BundleError: a worker could not load the bundle. DeviceError: the cluster has ended.
    """
    reporter.stage("cluster", f"Starting workers: {spec}")
    make = functools.partial(_make, bundle, settings, prepare)
    made_of = on_cluster(make, cases, spec, _killed, gpus=_gpus(spec, settings.device))
    for done, (case, made) in enumerate(made_of, 1):
        for warning in made.warnings:
            reporter.warning(warning)
        if made.result is not None:
            reporter.result(*made.result)
        reporter.progress("cluster", done, len(cases))
        yield case, made.failure


def _gpus(spec: str, device: str) -> int:
    """GPUs of this machine for local workers, one for each."""
    if not spec.startswith("local:") or device in ("cpu", "mps"):
        return 0
    import torch

    return torch.cuda.device_count()


def _make(bundle: Path, settings: Settings, prepare: Callable[[], None], case: Case) -> _Made:
    """Makes the result of one case; called in a worker."""
    generator, kept = _generator(bundle, settings, prepare)
    kept.made = made = _Made()
    made.failure = attempt(generator, case, kept)
    if isinstance(made.failure, OutputError) and os.path.isfile(case.target / result_files.RECORD):
        # A worker that was considered dead has written it in the meantime: it is read, not written again.
        kept.made = made = _Made()
        made.failure = attempt(generator, case, kept)
    return made


@functools.lru_cache(maxsize=1)
def _generator(bundle: Path, settings: Settings, prepare: Callable[[], None]) -> "tuple[Generator, _Kept]":
    """This worker's generator, whose pipeline is loaded for the first case."""
    prepare()
    kept = _Kept()
    return Generator(bundle, verify_bundle(bundle), settings, kept), kept


def _killed(case: Case) -> _Made:
    """The outcome of a case that killed its worker each time."""
    return _Made(
        failure=DeviceError(
            f"Expected the worker to live, it was killed each time amid {case.source}.",
            "Most likely memory is short: take fewer workers; the same command tries it again.",
        )
    )


class _Kept:
    """The reporter of a worker: keeps warnings and result for the process that has distributed the case."""

    wants_previews = False

    def __init__(self) -> None:
        self.made = _Made()

    def stage(self, name: str, message: str) -> None:
        """Ignored: single cases of many are not followed."""

    def progress(self, stage: str, step: int, of: int, after_s: float = 0.0) -> None:
        """As `stage`."""

    def preview(self, path: Path) -> None:
        """As `stage`."""

    def warning(self, message: str) -> None:
        self.made.warnings.append(message)

    def result(self, folder: Path, content: dict[str, Any], skipped: bool) -> None:
        self.made.result = folder, content, skipped

    def error(self, error: XRay2CTPAError, source: str = "") -> None:
        """`attempt` returns it."""
