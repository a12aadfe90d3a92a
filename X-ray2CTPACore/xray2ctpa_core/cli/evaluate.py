"""`xray2ctpa evaluate`: quality of bundles on unseen people and virtual patients, with baselines."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from xray2ctpa_core.cli.bars import Bars
from xray2ctpa_core.cli.generate import add_seed, positive
from xray2ctpa_core.config import write_json
from xray2ctpa_core.constants import DEFAULT_BUNDLE, DEVICES, EXIT_DONE

if TYPE_CHECKING:
    from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="evaluate bundles on people and virtual patients",
        description="Evaluates bundles on people and virtual patients that were not used in their training. "
        "Volumes are compared with the true CT; baselines are the mean volume of other patients and the "
        "volume of the nearest other radiograph. For virtual patients it also evaluates PE from real and "
        "generated latents and from the radiograph alone, compared with the best possible AUROC of the "
        "signs, and Grad-CAM compared with chance. Prints a report in Markdown.",
    )
    parser.add_argument(
        "cohort", type=Path, nargs="?", metavar="COHORT", help="folder made by `xray2ctpa cohort`"
    )
    parser.add_argument(
        "--people",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="CTs of real people (NIfTI, NRRD, MetaImage; HU), one file each, from which radiographs are "
        "computed; people of a bundle's training are left out by name; baselines come from the other people",
    )
    parser.add_argument(
        "--folds",
        action="store_true",
        help="the bundles are folds of one system: each of --people is measured with the first bundle that "
        "was trained without them, and the baselines are all other people; one table for all. Of virtual "
        "patients of people in COHORT only PE is evaluated, likewise",
    )
    parser.add_argument(
        "--open-pairs",
        dest="open_pair_cohorts",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a cohort that Training/open_pairs.py prepared: real radiographs of its test split against the "
        "CTs of the same patients (docs/open-pairs.md)",
    )
    parser.add_argument(
        "--bundle",
        dest="bundles",
        action="append",
        metavar="NAME|DIR|HUB_ID",
        help=f"bundle to evaluate; may be repeated (default: {DEFAULT_BUNDLE})",
    )
    parser.add_argument(
        "--train", type=Path, metavar="COHORT", help="cohort of the baselines (default: the same COHORT)"
    )
    parser.add_argument("--split", default="test", help="split for evaluation (default: %(default)s)")
    parser.add_argument(
        "--train-split",
        default="train",
        metavar="SPLIT",
        help="split of the baselines (default: %(default)s)",
    )
    counts = {
        "images": (60, count, "number of patients, and of people, whose volumes are compared"),
        "multi": (20, count, "number of patients with several samples; all people have several"),
        "samples": (8, positive, "number of samples that are averaged for them"),
        "auroc": (200, count, "number of patients for PE classification"),
        "open_pairs": (0, count, "pairs of the test split of each --open-pairs, from the first; 0 for all"),
        "radiographs": (20, positive, "number of radiographs, evenly spaced, from each --radiographs"),
        "steps": (0, count, "sampling steps; 0 for the bundle's"),
    }
    options = {"open_pairs": ["--open-pair-count"], "radiographs": ["--radiograph-count"]}
    for name, (default, kind, text) in counts.items():
        parser.add_argument(
            *options.get(name, [f"--{name}"]),
            dest=name,
            type=kind,
            default=default,
            metavar="N",
            help=f"{text} (default: %(default)s)",
        )
    parser.add_argument(
        "--pair",
        dest="pairs",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of a real pair: cxr.png, and ct.npz with ground_truth and published_generated",
    )
    parser.add_argument(
        "--radiographs",
        dest="radiograph_folders",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="real radiographs, compared with the generated volumes' projections (see --radiograph-count)",
    )
    parser.add_argument(
        "--metrics",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="LIST",
        help="also measure fvd, fid, lpips, planes (comma-separated; planes are always measured for people). "
        "Without the published networks in --weights, fvd and fid become Fréchet distances in the features "
        "of another, named network, and lpips an error",
    )
    parser.add_argument(
        "--weights",
        default="",
        metavar="DIR",
        help="folder of i3d_torchscript.pt, inception-2015-12-05.pt, alexnet-owt-7be5be79.pth (any of them)",
    )
    add_seed(parser)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write evaluation.json and evaluation.md there, and rows from which a later call continues",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    from xray2ctpa_core.config import from_mapping
    from xray2ctpa_core.errors import InputError
    from xray2ctpa_core.evaluation.config import EvaluationConfig
    from xray2ctpa_core.evaluation.report import markdown
    from xray2ctpa_core.evaluation.run import evaluate

    others = (args.people, args.open_pair_cohorts, args.pairs, args.radiograph_folders)
    if args.cohort is None and not any(others):
        raise InputError("Expected a cohort or --people for evaluation, got neither.", "See --help.")
    config = from_mapping(EvaluationConfig, {f.name: getattr(args, f.name) for f in fields(EvaluationConfig)})
    pipelines = load_pipelines(args.bundles or [DEFAULT_BUNDLE], args.device)
    with Bars() as bars:
        summary = evaluate(
            args.cohort,
            args.train,
            pipelines,
            config,
            args.pairs,
            args.out,
            bars.show,
            args.radiograph_folders,
            args.people,
            args.open_pair_cohorts,
        )
    report = markdown(summary)
    if args.out is not None:
        write(args.out, summary, report)
    sys.stdout.write(report)
    return EXIT_DONE


def load_pipelines(names: Sequence[str], device: str) -> "list[XRay2CTPAPipeline]":
    """The bundles' pipelines in fp32 on a device ("auto" for the best available)."""
    from xray2ctpa_core.pipelines.device import choose_device
    from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline

    chosen, _, dtype = choose_device(device, "fp32")
    return [XRay2CTPAPipeline.from_pretrained(name, torch_dtype=dtype).to(chosen) for name in names]


def write(out: Path, summary: dict[str, object], report: str) -> None:
    """Writes evaluation.json and evaluation.md atomically into ``out``."""
    from xray2ctpa_core.config import write_text_atomically

    write_json(out / "evaluation.json", summary)
    write_text_atomically(out / "evaluation.md", report)


def count(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text}")
    return value
