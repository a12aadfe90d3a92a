"""Several radiographs: one result for each, continuing after a failure."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.errors import XRay2CTPAError
from xray2ctpa_core.generation.events import Reporter
from xray2ctpa_core.generation.job import Generator
from xray2ctpa_core.generation.together import Made, generate_together, outcome
from xray2ctpa_core.wording import unreliable


@dataclass(frozen=True)
class Case:
    """One radiograph of a batch.

    Attributes:
        source: the radiograph, a file or a folder.
        target: its result folder.
        dicom: folder for its result as DICOM, or None for none.
    """

    source: Path
    target: Path
    dicom: Path | None = None


def generate_case(generator: Generator, case: Case, reporter: Reporter) -> dict[str, Any]:
    """Generates one result, also as DICOM if requested; returns the content of result.json."""
    _check_dicom(case)
    content = generator.generate(case.source, case.target)
    _export_dicom(case, content, reporter)
    return content


def attempt(generator: Generator, case: Case, reporter: Reporter) -> XRay2CTPAError | None:
    """Generates ``case``; returns the error if there is no result, else None.

    Raises:
        Cancelled, BundleError: they also end the other cases.
    """
    found = outcome(lambda: generate_case(generator, case, reporter))
    return found if isinstance(found, XRay2CTPAError) else None


def attempts(
    generator: Generator, cases: Sequence[Case], reporter: Reporter
) -> Iterator[tuple[Case, XRay2CTPAError | None]]:
    """Each case with its error or None, in order: one by one, or as many together as suits the device (see
    `XRay2CTPAPipeline.radiographs_at_once`)."""
    waiting = deque(cases)
    while waiting:
        some = [waiting.popleft() for _ in range(min(generator.at_once, len(waiting)))]
        if len(some) == 1:
            yield some[0], attempt(generator, some[0], reporter)
        else:
            yield from _together(generator, some, reporter)


def _together(
    generator: Generator, cases: Sequence[Case], reporter: Reporter
) -> Iterator[tuple[Case, XRay2CTPAError | None]]:
    refusals = [outcome(lambda case=case: _check_dicom(case)) for case in cases]  # type: ignore[misc]
    free = [case for case, refusal in zip(cases, refusals, strict=True) if refusal is None]
    made = generate_together(generator, [(case.source, case.target) for case in free], reporter)
    for case, refusal in zip(cases, refusals, strict=True):
        found = next(made) if refusal is None else refusal
        if isinstance(found, Made):
            yield case, _report(case, found, reporter)
        else:
            yield case, attempt(generator, case, reporter) if found is None else found


def _report(case: Case, made: Made, reporter: Reporter) -> XRay2CTPAError | None:
    """Reports a result and exports it as DICOM if requested; returns the error of that."""
    for warning in made.warnings:
        reporter.warning(warning)
    reporter.result(made.target, made.content, skipped=made.skipped)
    return outcome(lambda: _export_dicom(case, made.content, reporter))


def _check_dicom(case: Case) -> None:
    if case.dicom is not None:
        from xray2ctpa_core.generation.dicom_export import check_place

        check_place(case.dicom, case.target)


def _export_dicom(case: Case, content: dict[str, Any], reporter: Reporter) -> None:
    if case.dicom is not None:
        from xray2ctpa_core.generation.dicom_export import export_dicom

        reporter.stage("dicom", f"Writing {case.dicom}")
        export_dicom(
            case.target, case.source, case.dicom, content["input"]["sha256"], unreliable(content["pe"])
        )


def exit_code(outcomes: Iterable[tuple[Case, XRay2CTPAError | None]], reporter: Reporter) -> int:
    """Processes a batch and reports failures; returns the exit code of the first failure, else 0.

    Args:
        outcomes: for each case an error or None; iterating makes the results.
        reporter: receives the failures.
    """
    code = EXIT_DONE
    for case, failure in outcomes:
        if failure is not None:
            reporter.error(failure, str(case.source))
            code = code or failure.exit_code
    return code


def generate_batch(generator: Generator, cases: Sequence[Case], reporter: Reporter) -> int:
    """Processes the cases in this process; the failure of a single case is raised, otherwise as
    `exit_code`."""
    if len(cases) == 1:
        generate_case(generator, cases[0], reporter)
        return EXIT_DONE
    return exit_code(attempts(generator, cases, reporter), reporter)
