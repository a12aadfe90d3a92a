"""A batch on a cluster: each worker loads the bundle once, each case is written by one of them."""

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
    """What a worker made of a case.

    Attributes:
        warnings: sentences.
        result: folder, content of result.json, and whether it was there before; None where it failed.
        failure: why.
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
    """Each case and why there is no result of it, or None, as they are done.

    Args:
        bundle: verified folder, which all workers reach.
        settings: how to generate.
        cases: absolute paths that all workers reach.
        spec: which workers (`cluster.on_cluster`).
        reporter: told of warnings, results and how many are done.
        prepare: a function of a module that each worker calls once, before it loads the bundle.

    Raises:
        BundleError: a worker could not load the bundle. DeviceError: the cluster is gone.
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
    """GPUs of this machine that local workers are given, one each."""
    if not spec.startswith("local:") or device in ("cpu", "mps"):
        return 0
    import torch

    return torch.cuda.device_count()


def _make(bundle: Path, settings: Settings, prepare: Callable[[], None], case: Case) -> _Made:
    """In a worker: the result of one case."""
    generator, kept = _generator(bundle, settings, prepare)
    kept.made = made = _Made()
    made.failure = attempt(generator, case, kept)
    if isinstance(made.failure, OutputError) and os.path.isfile(case.target / result_files.RECORD):
        # A worker that was taken for dead has written it meanwhile: it is read, not written again.
        kept.made = made = _Made()
        made.failure = attempt(generator, case, kept)
    return made


@functools.lru_cache(maxsize=1)
def _generator(bundle: Path, settings: Settings, prepare: Callable[[], None]) -> "tuple[Generator, _Kept]":
    """Of this worker, with the pipeline that its first case loads."""
    prepare()
    kept = _Kept()
    return Generator(bundle, verify_bundle(bundle), settings, kept), kept


def _killed(case: Case) -> _Made:
    """What stands for a case that killed its workers each time."""
    return _Made(
        failure=DeviceError(
            f"Expected the worker to live, it was killed each time amid {case.source}.",
            "Most likely memory is short: take fewer workers; the same command tries it again.",
        )
    )


class _Kept:
    """The reporter of a worker: warnings and the result are kept for who handed the case out."""

    wants_previews = False

    def __init__(self) -> None:
        self.made = _Made()

    def stage(self, name: str, message: str) -> None:
        """Nobody follows a single case of many."""

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
