"""`xray2ctpa generate`: makes a result folder for each radiograph."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from xray2ctpa_core.constants import DEFAULT_BUNDLE, DEVICES, EXIT_DONE
from xray2ctpa_core.errors import BundleError, Cancelled
from xray2ctpa_core.generation.dicom_export import check_place, export_dicom
from xray2ctpa_core.generation.events import Reporter, only_events_on_stdout
from xray2ctpa_core.generation.failures import user_error
from xray2ctpa_core.generation.job import Generator
from xray2ctpa_core.generation.settings import Settings
from xray2ctpa_core.io.dicom_out import require_highdicom
from xray2ctpa_core.io.names import stem_of
from xray2ctpa_core.pipelines.loading import load_bundle

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
HYPOTHESIS = "What it generates is a hypothesis, never a diagnosis: not for patient care."
RESULT_SUFFIX = "-ctpa"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "generate",
        help="generate a synthetic CTPA from one or more chest X-rays",
        description="Generates a synthetic CTPA, a PE probability and a Grad-CAM map from a frontal chest "
        "X-ray. " + HYPOTHESIS,
        epilog="Exit codes: 0 done; 2 unusable input or arguments; 3 bundle missing, damaged or "
        "incompatible; 4 not a frontal chest radiograph; 5 device or memory; 130 cancelled. With several "
        "inputs: the code of the first that failed.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
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
    add_sampling_arguments(parser)
    parser.set_defaults(run=run)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of generation, shared with `demo`."""
    parser.add_argument(
        "--bundle", default=DEFAULT_BUNDLE, metavar="NAME|DIR|HUB_ID", help="weights (default: %(default)s)"
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="sampling steps (default: the bundle's)")
    parser.add_argument("--scheduler", metavar="NAME", help="sampler (default: the bundle's)")
    parser.add_argument(
        "--samples",
        type=positive,
        metavar="K",
        help="volumes to sample; more than one adds spread.nii.gz (default: the bundle's)",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="S", help="random seed (default: %(default)s)"
    )
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--events", action="store_true", help="JSON lines on stdout, one event each")
    parser.add_argument(
        "--force", action="store_true", help="continue if the input is no frontal chest radiograph"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; the exit code is that of the first input that failed."""
    targets = result_folders(args.inputs, args.out)
    dicom_folders: list[Path | None] = [None] * len(targets)
    if args.dicom is not None:
        require_highdicom()
        dicom_folders = [args.dicom / t.name if len(targets) > 1 else args.dicom for _, t in targets]
    with only_events_on_stdout(args) as reporter:
        return generate_batch(generator_for(args, reporter), targets, reporter, dicom_folders)


def generator_for(args: argparse.Namespace, reporter: Reporter) -> Generator:
    """The generator for the options of ``add_sampling_arguments``; raises BundleError for a damaged
    bundle."""
    reporter.stage("verify", f"Verifying bundle {args.bundle}")
    folder, info = load_bundle(args.bundle)
    settings = Settings(
        scheduler=args.scheduler or info.sampling.scheduler,
        steps=args.steps or info.sampling.steps,
        samples=args.samples or info.sampling.samples,
        seed=args.seed,
        device=args.device,
        precision=args.precision,
        force=args.force,
    )
    return Generator(folder, info, settings, reporter)


def generate_batch(
    generator: Generator,
    targets: list[tuple[Path, Path]],
    reporter: Reporter,
    dicom_folders: Sequence[Path | None],
) -> int:
    """Makes one result for each pair (input, result folder); continues after failures, stops when cancelled.

    Args:
        generator: makes all results.
        targets: the pairs.
        reporter: receives the failures, if there are several inputs.
        dicom_folders: folder of each pair into which the result is also written as DICOM; None for no DICOM.

    Returns:
        The exit code of the first input that failed, else 0. A failure of a single input is raised.
    """
    code = EXIT_DONE
    for (source, target), dicom in zip(targets, dicom_folders, strict=True):
        try:
            if dicom is not None:
                check_place(dicom, target)
            content = generator.generate(source, target)
            if dicom is not None:
                reporter.stage("dicom", f"Writing {dicom}")
                export_dicom(target, source, dicom, content["input"]["sha256"])
        except (Exception, KeyboardInterrupt) as error:
            failure = user_error(error)
            if len(targets) == 1 or isinstance(failure, Cancelled | BundleError):
                raise
            reporter.error(failure, str(source))
            code = code or failure.exit_code
    return code


def result_folders(inputs: list[Path], out: Path | None) -> list[tuple[Path, Path]]:
    """Pairs of input and result folder: ``out`` for one input, one folder in ``out`` for each of several.

    Inputs with the same name, ignoring case, get -2, -3, ... in the given order.
    """
    if len(inputs) == 1:
        return [(inputs[0], out or Path(stem(inputs[0]) + RESULT_SUFFIX))]
    taken: set[str] = set()
    pairs = []
    for source in inputs:
        name, number = stem(source) + ("" if out else RESULT_SUFFIX), 1
        while (numbered := name if number == 1 else f"{name}-{number}").casefold() in taken:
            number += 1
        taken.add(numbered.casefold())
        pairs.append((source, (out or Path()) / numbered))
    return pairs


def stem(source: Path) -> str:
    """Name of an input without the suffix of its format; for "." and ".." the name of the folder."""
    return stem_of(source.name if source.name not in ("", "..") else Path(os.path.realpath(source)).name)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def seed(text: str) -> int:
    """A whole number that every random generator accepts, 0 to 2**63 - 1, for argparse."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**63 - 1, got {text}")
    return value
