"""The command `xray2ctpa`: one parser, one place where errors become exit codes.

Subcommands are modules with ``add_parser(subparsers)`` and ``run(args) -> exit code``. They import heavy
packages only when they run, so that help texts and errors in arguments and inputs appear at once.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from xray2ctpa_core import __version__
from xray2ctpa_core.cli import (
    bench,
    check,
    cohort,
    convert,
    demo,
    dicom,
    evaluate,
    generate,
    info,
    reader_study,
    score,
    serve,
    system,
    verify,
    view,
)
from xray2ctpa_core.cli.lean import end, sleep_while_waiting, start_lean
from xray2ctpa_core.cli.streams import check_working_folder, open_missing_streams, working_folder_left_out
from xray2ctpa_core.constants import EXIT_CANCELLED
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.events import reporter_for
from xray2ctpa_core.generation.failures import (
    DEBUG_VARIABLE,
    quiet_libraries,
    termination_as_interrupt,
    user_error,
)

COMMANDS = (
    generate, dicom, score, check, demo, info, verify, system, cohort, evaluate, bench, convert, reader_study,
    view, serve,
)  # fmt: skip
#: As the only command of a process, these start without the packages that only training needs.
LEAN = (generate.run, score.run, check.run, demo.run, serve.run)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors: two lines, without the usage. An empty path is one: it
    would be the working folder."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", Path, _path)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}.", f"See `{self.prog} --help`.")


def _path(word: str) -> Path:
    if not word:
        raise argparse.ArgumentTypeError("expected a file or folder, got an empty name (an unset variable?)")
    return Path(word)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every subcommand."""
    parser = Parser(
        prog="xray2ctpa",
        description="From one frontal chest radiograph to a synthetic CT pulmonary angiogram. "
        + generate.HYPOTHESIS,
    )
    parser.add_argument("--version", action="version", version=f"xray2ctpa {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line ``argv`` (default: this process's) and returns its exit code."""
    open_missing_streams()
    if argv is None:
        sleep_while_waiting()
    arguments = sys.argv[1:] if argv is None else list(argv)
    reporter = reporter_for(argparse.Namespace(events="--events" in arguments))
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    alone = False
    try:
        with working_folder_left_out(), termination_as_interrupt(), quiet_libraries(not debug):
            args = build_parser().parse_args(arguments)
            check_working_folder()
            alone = argv is None and args.run in LEAN  # a calling program may need more packages later
            if alone:
                start_lean()
            code = int(args.run(args))
    except BrokenPipeError:
        # The reader of our output has closed it; a second attempt to flush would fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_CANCELLED
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        failure = user_error(error)  # here every exception becomes an exit code
        with contextlib.suppress(BrokenPipeError):
            reporter.error(failure)
        code = failure.exit_code
    if alone:
        end(code)  # also where a bundle is still being loaded in a thread
    return code


if __name__ == "__main__":
    sys.exit(main())
