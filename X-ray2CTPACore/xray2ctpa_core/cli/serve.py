"""`xray2ctpa serve`: the resident worker of a process."""

import argparse
import os
import sys

from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.generation.resident import Worker


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="keep a bundle loaded for one process, which generates by `generate --resident`",
        description="Keeps a bundle loaded for the jobs of one process, one after another, behind a private "
        "socket. `generate --resident PID` starts it where there is none; Slicer's panel and the page do so.",
    )
    parser.add_argument(
        "--owner",
        type=int,
        default=None,
        metavar="PID",
        help="end with that process (default: the one that started this one)",
    )
    parser.add_argument(
        "--idle",
        type=float,
        default=10.0,
        metavar="MINUTES",
        help="end after so long without a job, so that its memory is free (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand until its owner has ended, or nothing has come for a while."""
    owner = os.getppid() if args.owner is None else args.owner
    worker = Worker(owner, 60 * args.idle)
    sys.stdout.write(f"Serves process {owner}: xray2ctpa generate INPUT --resident {owner}\n")
    sys.stdout.flush()
    worker.serve()
    return EXIT_DONE
