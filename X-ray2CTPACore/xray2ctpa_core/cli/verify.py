"""`xray2ctpa verify BUNDLE`: checks every file of a bundle against its SHA-256."""

import argparse
import sys

from xray2ctpa_core.constants import DEFAULT_BUNDLE, EXIT_DONE
from xray2ctpa_core.pipelines.loading import load_bundle


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser("verify", help="check every file of a bundle", description=__doc__)
    parser.add_argument("bundle", nargs="?", default=DEFAULT_BUNDLE, metavar="BUNDLE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; raises BundleError (exit code 3) for a damaged bundle."""
    folder, info = load_bundle(args.bundle)
    sys.stdout.write(f"{info.name} {info.version}: all {len(info.files)} files are intact.\n{folder}\n")
    sys.stdout.write(f"sha256 {info.sha256}\n")
    return EXIT_DONE
