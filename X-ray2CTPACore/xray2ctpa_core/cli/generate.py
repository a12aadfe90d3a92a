"""`xray2ctpa generate`: makes a result folder for each radiograph."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from xray2ctpa_core.cli.lean import start_lean
from xray2ctpa_core.config import part
from xray2ctpa_core.constants import DEFAULT_BUNDLE, DEVICES, PRECISIONS
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.generation.batch import Case, attempts, exit_code, generate_batch
from xray2ctpa_core.generation.events import Reporter, only_events_on_stdout
from xray2ctpa_core.generation.job import Generator
from xray2ctpa_core.generation.listed import Ledger, read_list
from xray2ctpa_core.generation.request import Request
from xray2ctpa_core.generation.resident_client import NoWorkerError, generate_resident
from xray2ctpa_core.generation.settings import Wishes
from xray2ctpa_core.io.names import stem_of
from xray2ctpa_core.pipelines.loading import load_bundle, resolve_bundle

HYPOTHESIS = "What it generates is a hypothesis, never a diagnosis: not for patient care."
RESULT_SUFFIX = "-ctpa"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "generate",
        help="generate a synthetic CTPA from one or more chest radiographs",
        description="Generates a synthetic CTPA, a PE probability and a Grad-CAM map from a frontal chest "
        "radiograph. " + HYPOTHESIS,
        epilog="Exit codes: 0 done; 2 unusable input or arguments; 3 bundle missing, damaged or "
        "incompatible; 4 not a frontal chest radiograph; 5 device or memory; 130 cancelled. With several "
        "inputs: the code of the first that failed.",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        type=Path,
        metavar="INPUT",
        help="DICOM file or folder, PNG, JPEG, TIFF, or single-slice NIfTI, NRRD, MHA",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="result folder; with several inputs the folder of their result folders (default: INPUT's name "
        f"with {RESULT_SUFFIX}, here). A finished result is not made again",
    )
    parser.add_argument(
        "--dicom",
        type=Path,
        metavar="DIR",
        help="also write the volume as a CT series in the radiograph's study, and Grad-CAM as a parametric "
        "map, into DIR; with several inputs into one folder for each in DIR (extra: dicom)",
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="in place of INPUT: a text file with a path a line, relative to its folder; --out then holds a "
        "result folder each, index.csv and errors.jsonl",
    )
    parser.add_argument(
        "--cluster",
        metavar="SPEC",
        help="with --list, have several workers generate (extra: cluster): local:N here, slurm:N or "
        "slurm:FILE.toml, or the address of a Dask scheduler; a killed worker's radiographs are done again",
    )
    parser.add_argument(
        "--resident",
        type=int,
        metavar="PID",
        help="have the resident worker of that process generate, which starts with the first job and ends "
        "with the process: the bundle is loaded once. In a shell: $$",
    )
    add_sampling_arguments(parser)
    parser.set_defaults(run=run)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of generation, shared with `demo`."""
    add_bundle(parser)
    parser.add_argument("--steps", type=positive, metavar="N", help="sampling steps (default: the bundle's)")
    parser.add_argument("--scheduler", metavar="NAME", help="sampler (default: the bundle's)")
    parser.add_argument(
        "--samples",
        type=positive,
        metavar="K",
        help="volumes to sample; more than one adds spread.nii.gz (default: the bundle's)",
    )
    add_seed(parser)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--events", action="store_true", help="JSON lines on stdout, one event each")
    parser.add_argument(
        "--force", action="store_true", help="continue if the input is no frontal chest radiograph"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; the exit code is that of the first input that failed."""
    check_combination(args)
    if args.dicom is not None:
        from xray2ctpa_core.io.dicom_out import require_highdicom

        require_highdicom()
    if args.list is not None:
        return generate_listed(args)
    targets = result_folders(args.inputs, args.out)
    cases = [Case(*pair, dicom_folder(args.dicom, pair[1], len(targets))) for pair in targets]
    with only_events_on_stdout(args) as reporter:
        if args.resident is not None:
            try:
                return hand_over(args, cases, reporter)
            except NoWorkerError as reason:
                reporter.warning(f"Going on without a resident worker: {reason}.")
        return generate_batch(generator_for(args, reporter), cases, reporter)


def check_combination(args: argparse.Namespace) -> None:
    """Raises InputError for flags that do not go together."""
    if bool(args.inputs) == (args.list is not None):
        raise InputError("Expected INPUT or --list, got both or neither.", "See `xray2ctpa generate --help`.")
    if args.list is not None and args.out is None:
        raise InputError("Expected --out with --list, got none.", "Name the folder for the results.")
    if args.list is not None and args.resident is not None:
        raise InputError("Expected --resident or --list, got both.", "Take --cluster local:1 for a list.")
    if args.cluster is not None and args.list is None:
        raise InputError("Expected --list with --cluster, got none.", "Write the inputs into a file.")


def generate_listed(args: argparse.Namespace) -> int:
    """Generates from a list, here or on a cluster; what failed is said again in the end."""
    out = args.out.absolute()
    cases = read_list(args.list, out, args.dicom and args.dicom.absolute())
    ledger = Ledger(out)
    outcomes: Iterator[tuple[Case, XRay2CTPAError | None]]
    with only_events_on_stdout(args) as reporter:
        generator = generator_for(args, reporter)
        if args.cluster is None:
            outcomes = attempts(generator, cases, reporter)
        else:
            from xray2ctpa_core.generation.cluster_batch import generate_on_cluster

            folder = generator.folder.absolute()
            outcomes = generate_on_cluster(
                folder, generator.settings, cases, args.cluster, reporter, start_lean
            )
        with contextlib.closing(ledger.following(outcomes)) as followed:
            code = exit_code(followed, reporter)
    sys.stderr.write("\n".join(ledger.summary_lines()) + "\n")
    return code


def hand_over(args: argparse.Namespace, cases: list[Case], reporter: Reporter) -> int:
    """Has the resident worker generate."""
    reporter.stage("verify", f"Verifying bundle {args.bundle}")
    bundle = resolve_bundle(args.bundle)
    request = Request.of_this_process(cases, bundle, part(Wishes, args), reporter.wants_previews)
    return generate_resident(request, args.resident, reporter)


def dicom_folder(folder: Path | None, target: Path, inputs: int) -> Path | None:
    """Where the result at ``target`` is written as DICOM: ``folder``, of several inputs a folder in it."""
    return folder / target.name if folder is not None and inputs > 1 else folder


def generator_for(args: argparse.Namespace, reporter: Reporter) -> Generator:
    """The generator for the options of ``add_sampling_arguments``; raises BundleError for a damaged
    bundle."""
    reporter.stage("verify", f"Verifying bundle {args.bundle}")
    folder, info = load_bundle(args.bundle)
    return Generator(folder, info, part(Wishes, args).settings(info), reporter)


def result_folders(inputs: list[Path], out: Path | None) -> list[tuple[Path, Path]]:
    """Pairs of input and result folder: ``out`` for one input, one folder in ``out`` for each of several.

    Inputs with the same name, ignoring case, get -2, -3, ... in the given order.
    """
    if len(inputs) == 1:
        return [(inputs[0], out or Path(stem(inputs[0]) + RESULT_SUFFIX))]
    suffix, parent = ("", out) if out else (RESULT_SUFFIX, Path())
    names = distinct([stem(source) + suffix for source in inputs])
    return [(source, parent / name) for source, name in zip(inputs, names, strict=True)]


def distinct(names: Iterable[str]) -> list[str]:
    """The names; one that was before, ignoring case, gets -2, -3, ... at its end."""
    taken: set[str] = set()
    result = []
    for name in names:
        number = 1
        while (numbered := name if number == 1 else f"{name}-{number}").casefold() in taken:
            number += 1
        taken.add(numbered.casefold())
        result.append(numbered)
    return result


def stem(source: Path) -> str:
    """Name of an input without the suffix of its format; for "." and ".." the name of the folder."""
    return stem_of(source.name if source.name not in ("", "..") else Path(os.path.realpath(source)).name)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Adds --bundle, for commands that take any."""
    parser.add_argument(
        "--bundle", default=DEFAULT_BUNDLE, metavar="NAME|DIR|HUB_ID", help="weights (default: %(default)s)"
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Adds --seed."""
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="S", help="random seed (default: %(default)s)"
    )


def seed(text: str) -> int:
    """A whole number that every random generator accepts, 0 to 2**63 - 1, for argparse."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**63 - 1, got {text}")
    return value
