"""`xray2ctpa cohort`: virtual patients for training and tests."""

import argparse
import sys
from pathlib import Path

from xray2ctpa_core.cli.generate import add_seed, positive
from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.errors import InputError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "cohort",
        help="make virtual patients",
        description="Makes virtual patients: CTPA, clot and organ label maps, radiograph, signs, parameters. "
        "The same seed gives the same files, whatever the number of workers.",
    )
    parser.add_argument("--n", type=positive, required=True, metavar="N", help="number of patients")
    add_seed(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the cohort")
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="W", help="processes (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="continue the cohort of the same seed in DIR")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.out.exists() and not args.resume and (not args.out.is_dir() or any(args.out.iterdir())):
        raise InputError(
            f"Expected a new folder for the cohort, got {args.out}, which exists.",
            "Choose another --out, or continue it with --resume.",
        )
    from tqdm import tqdm

    from xray2ctpa_core.simulation.build import build_cohort

    with tqdm(total=args.n, unit="patient", disable=None, file=sys.stderr) as bar:

        def show(done: int, _of: int) -> None:
            bar.update(done - bar.n)

        summary = build_cohort(args.out, args.n, args.seed, args.workers, show)
    sys.stdout.write("\n".join(summary.summary_lines()) + "\n")
    return EXIT_DONE
