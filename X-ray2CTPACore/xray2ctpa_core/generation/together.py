"""Several radiographs together: shared batches, and a thread for each result that is written."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xray2ctpa_core.errors import BundleError, Cancelled, XRay2CTPAError
from xray2ctpa_core.generation.failures import user_error
from xray2ctpa_core.generation.job import Generator
from xray2ctpa_core.generation.settings import Settings
from xray2ctpa_core.io.result_folder import ResultFolder
from xray2ctpa_core.pipelines.stopwatch import Stopwatch
from xray2ctpa_core.volume import Radiograph
from xray2ctpa_core.wording import counted

if TYPE_CHECKING:
    from xray2ctpa_core.generation.events import Reporter
    from xray2ctpa_core.models.protocols import FramedRadiograph
    from xray2ctpa_core.pipelines.result import XRay2CTPAResult

#: Radiograph and folder of its result.
Pair = tuple[Path, Path]
T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """A result: its folder, the content of result.json, warnings, and whether it was complete before."""

    target: Path
    content: dict[str, Any]
    warnings: tuple[str, ...] = ()
    skipped: bool = False


@dataclass(frozen=True)
class _Begun:
    """A radiograph that is read and framed, and the open folder of its result."""

    radiograph: Radiograph
    framed: "FramedRadiograph"
    folder: ResultFolder
    target: Path
    spent: Stopwatch


def generate_together(
    generator: Generator, pairs: Sequence[Pair], reporter: "Reporter"
) -> Iterator[Made | XRay2CTPAError | None]:
    """What `Generator.generate` does for each pair; nothing is reported but stages and progress.

    A radiograph that cannot be used does not stop the others, and each result is published by itself.

    Yields:
        For each pair, in order, the result, or the error that left it without one; None where only
        generating together failed, so that the pair must be tried alone.

    Raises:
        Cancelled, BundleError: they also end the other cases.
    """
    reporter.stage("read", f"Reading {counted(len(pairs), 'radiograph')}")
    with ExitStack() as folders:
        begun = [outcome(lambda pair=pair: _begun(generator, pair, folders)) for pair in pairs]  # type: ignore[misc]
        ready = [one for one in begun if isinstance(one, _Begun)]
        made = iter(_made(generator, ready, reporter) if ready else [])
        outcomes = [next(made) if isinstance(one, _Begun) else one for one in begun]
    yield from outcomes


def outcome(make: Callable[[], T]) -> T | XRay2CTPAError:
    """What ``make`` returns, or its error in the words of the command's contract.

    Raises:
        Cancelled, BundleError: they also end the other cases.
    """
    try:
        return make()
    except (Exception, KeyboardInterrupt) as error:
        failure = user_error(error)
        if isinstance(failure, Cancelled | BundleError):
            raise
        return failure


def _begun(generator: Generator, pair: Pair, folders: ExitStack) -> _Begun | Made:
    source, target = pair
    spent = Stopwatch()
    radiograph, former = generator.read(source, target, spent)
    if former is not None:
        return Made(target, former, skipped=True)
    folder = folders.enter_context(generator.result_folder(target))
    pipeline, _ = generator.pipeline(spent)
    with spent.on("locate"):
        framed = pipeline.framed(radiograph, force=generator.settings.force)
    return _Begun(radiograph, framed, folder, target, spent)


def _made(
    generator: Generator, ready: Sequence[_Begun], reporter: "Reporter"
) -> list[Made | XRay2CTPAError | None]:
    pipeline, used = generator.pipeline(Stopwatch())
    settings = generator.settings
    reporter.stage("generate", f"Generating from {counted(len(ready), 'radiograph')}")
    generated = outcome(
        lambda: pipeline.of_framed(
            [one.framed for one in ready],
            num_inference_steps=settings.steps,
            num_samples=settings.samples,
            seed=settings.seed,
            callback_on_step_end=generator.following(len(ready)),
        )
    )
    if isinstance(generated, XRay2CTPAError):
        return [None] * len(ready)
    reporter.stage("write", f"Writing {counted(len(ready), 'result')}")
    with ThreadPoolExecutor(len(ready)) as writers:
        futures = [
            writers.submit(outcome, lambda one=one, its=its: _finished(generator, one, its, used))  # type: ignore[misc]
            for one, its in zip(ready, generated, strict=True)
        ]
        return [future.result() for future in futures]


def _finished(generator: Generator, one: _Begun, generated: "XRay2CTPAResult", used: Settings) -> Made:
    content = generator.written(one.folder, one.radiograph, generated, used, one.spent)
    warnings = (*one.radiograph.notes, *generator.warnings_of(generated))
    return Made(one.target, content, tuple(f"{one.radiograph.name}: {warning}" for warning in warnings))
