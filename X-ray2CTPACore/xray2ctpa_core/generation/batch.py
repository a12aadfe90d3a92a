"""Several radiographs: one result for each, continuing after a failure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.errors import BundleError, Cancelled, XRay2CTPAError
from xray2ctpa_core.generation.events import Reporter
from xray2ctpa_core.generation.failures import user_error
from xray2ctpa_core.generation.job import Generator
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
    if case.dicom is None:
        return generator.generate(case.source, case.target)
    from xray2ctpa_core.generation.dicom_export import check_place, export_dicom

    check_place(case.dicom, case.target)
    content = generator.generate(case.source, case.target)
    reporter.stage("dicom", f"Writing {case.dicom}")
    reason = unreliable(content["pe"])
    export_dicom(case.target, case.source, case.dicom, content["input"]["sha256"], reason)
    return content


def attempt(generator: Generator, case: Case, reporter: Reporter) -> XRay2CTPAError | None:
    """Generates ``case``; returns the error if there is no result, else None.

    Raises:
        Cancelled, BundleError: they also end the other cases.
    """
    try:
        generate_case(generator, case, reporter)
    except (Exception, KeyboardInterrupt) as error:
        failure = user_error(error)
        if isinstance(failure, Cancelled | BundleError):
            raise
        return failure
    return None


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
    """Processes one case after another in this process; the failure of a single case is raised, otherwise as
    `exit_code`."""
    if len(cases) == 1:
        generate_case(generator, cases[0], reporter)
        return EXIT_DONE
    return exit_code(((case, attempt(generator, case, reporter)) for case in cases), reporter)
