"""`xray2ctpa bench`: speed on this machine, compared with X-ray2CTPA's method and with hardware limits."""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray2ctpa_core.cli.bars import Bars
from xray2ctpa_core.cli.evaluate import load_pipelines
from xray2ctpa_core.cli.generate import add_bundle, add_seed, positive
from xray2ctpa_core.config import write_json, write_text_atomically
from xray2ctpa_core.constants import EXIT_DONE, PRECISIONS
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.result_json import software_versions
from xray2ctpa_core.generation.samples import SAMPLE_CXR

if TYPE_CHECKING:
    from xray2ctpa_core.volume import Radiograph

#: What is measured: X-ray2CTPA's size, the command from start to end, a bundle that is loaded.
PARTS = ("papers", "command", "loaded")
CURVE_STEPS = "1,2,4,6,10,15,25"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed against X-ray2CTPA's method, or quality against steps",
        description="Measures the speed of X-ray2CTPA's method (released structure, eager fp32, 1000-step "
        "ancestral DDPM, slices decoded one by one through 8-bit grey) and of ours, alternately and with "
        "the same weights and input; ours also with a tiny decoder in place of the autoencoder's. Then "
        "measures the whole command and the loaded bundle, and says which of the project's targets are met. "
        "Rows of a GPU say so where there is none. With --curve it measures quality against "
        "steps instead. Prints tables in Markdown.",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write bench.json and bench.md (or curve.*) there"
    )
    add_bundle(parser)
    parser.add_argument(
        "--denoiser",
        type=Path,
        metavar="DIR",
        help="X-ray2CTPA's denoiser, as written by `convert` (default: the same network with random weights, "
        "which do not change the time)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of everything, without start-up times and memory of either method",
    )
    parser.add_argument(
        "--bundle-steps", type=positive, metavar="N", help="steps with the bundle (default: the bundle's)"
    )
    parser.add_argument(
        "--samples",
        type=positive,
        default=8,
        metavar="K",
        help="samples of a radiograph at once, held to as many one by one (default: %(default)s)",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="of the loaded bundle (default: %(default)s)"
    )
    parser.add_argument(
        "--price",
        type=price,
        action="append",
        default=[],
        metavar="DEVICE=PER_HOUR",
        help="what an hour of cpu or cuda costs, for the cost of 1,000 radiographs; may be repeated",
    )
    parser.add_argument(
        "--parts",
        type=parts,
        default=PARTS,
        metavar="PART,...",
        help=f"what is measured (default: {','.join(PARTS)}): X-ray2CTPA's size, the command with the "
        "bundle, the loaded bundle",
    )
    parser.add_argument(
        "--trial", action="store_true", help="X-ray2CTPA's size made tiny: tries the bench, measures nothing"
    )
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--passes",
        type=positive,
        default=25,
        metavar="N",
        help="steps of ours at paper scale (default: %(default)s)",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: torch's)")
    add_seed(parser)
    curve = parser.add_argument_group("quality against steps")
    curve.add_argument(
        "--curve", type=Path, metavar="COHORT", help="unseen virtual patients to measure it on"
    )
    curve.add_argument(
        "--steps", default=CURVE_STEPS, metavar="N,N,...", help="numbers of steps (default: %(default)s)"
    )
    curve.add_argument(
        "--patients", type=positive, default=12, metavar="N", help="patients (default: %(default)s)"
    )
    curve.add_argument(
        "--reference-steps",
        type=positive,
        default=1000,
        metavar="N",
        help="steps of the ancestral DDPM sampler used as reference (default: %(default)s)",
    )
    curve.add_argument(
        "--reference-bundle",
        metavar="NAME|DIR|HUB_ID",
        help="bundle of that reference (default: the same; a few-step bundle needs its teacher's)",
    )
    curve.add_argument("--split", default="test", help="split for evaluation (default: %(default)s)")
    curve.add_argument("--store", action="store_true", help="save the curve in the bundle, for its presets")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    return run_curve(args) if args.curve else run_speed(args)


def run_speed(args: argparse.Namespace) -> int:
    """Measures time."""
    if args.store:
        raise InputError("Expected --store beside --curve COHORT, got it alone.", "Name a cohort.")
    import torch

    from xray2ctpa_core.benchmark import report
    from xray2ctpa_core.pipelines.loading import load_bundle

    load_bundle(args.bundle)  # raises its errors before the measurements
    torch.set_num_threads(args.threads or torch.get_num_threads())
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    results: dict[str, Any] = {"software": software_versions(), "prices": dict(args.price)}
    if args.trial:
        results["trial"] = True
    with Bars() as bars:
        if "papers" in args.parts:
            results["paper_scale"] = paper_scale_on(devices, args, bars)
        if "command" in args.parts:
            results["end_to_end"] = command_on(devices, args, bars)
        if "loaded" in args.parts:
            results["warm"] = loaded_on(devices, args, bars)
    show(args.out, "bench", results, report.markdown(results))
    return EXIT_DONE


def paper_scale_on(devices: list[str], args: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    """X-ray2CTPA's size on each device."""
    import torch

    from xray2ctpa_core.benchmark.paper_scale import BenchConfig, measure_paper_scale
    from xray2ctpa_core.benchmark.sides import TRIAL, Scale, paper_weights

    weights = paper_weights(args.denoiser, args.seed)
    scale = TRIAL if args.trial else Scale(our_steps=args.passes)
    of_cpu = BenchConfig(args.repeats, 2, args.seed)
    if args.quick:
        of_cpu = BenchConfig(1, 1, args.seed, children=False)
    # A GPU's rounds are short; one would be at the mercy of its clock.
    configs = {"cpu": of_cpu, "cuda": BenchConfig(args.repeats, 2, args.seed, children=False)}
    return {
        name: measure_paper_scale(weights, configs[name], torch.device(name), scale, bars.show)
        for name in devices
    }


def command_on(devices: list[str], args: argparse.Namespace, bars: Bars) -> list[dict[str, Any]]:
    """The command with the bundle on each device."""
    import torch

    from xray2ctpa_core.benchmark.end_to_end import measure_end_to_end

    repeats, threads = _repeats(args), torch.get_num_threads()
    return [
        measure_end_to_end(SAMPLE_CXR, args.bundle, repeats, threads, name, bars.show, args.bundle_steps)
        for name in devices
    ]


def loaded_on(devices: list[str], args: argparse.Namespace, bars: Bars) -> list[dict[str, Any]]:
    """The loaded bundle on each device; in single precision where a CPU lacks the one that was asked for."""
    from xray2ctpa_core.benchmark.warm import measure_warm

    radiograph, steps, repeats = radiograph_by_pillow(SAMPLE_CXR), args.bundle_steps, _repeats(args)
    of_cpu = args.precision if args.precision == "bf16" else "fp32"
    return [
        measure_warm(
            radiograph,
            args.bundle,
            steps,
            args.samples,
            repeats,
            name,
            of_cpu if name == "cpu" else args.precision,
            bars.show,
        )
        for name in devices
    ]


def _repeats(args: argparse.Namespace) -> int:
    """Rounds of whole radiographs."""
    return 1 if args.quick else min(3, args.repeats)


def run_curve(args: argparse.Namespace) -> int:
    """Measures quality against steps."""
    from xray2ctpa_core.diffusion.schedulers import FEW_STEP
    from xray2ctpa_core.evaluation.curve import (
        REFERENCE_SCHEDULER,
        CurveConfig,
        measure_curve,
        store_curve,
    )
    from xray2ctpa_core.evaluation.curve import markdown as curve_markdown

    config = CurveConfig(parsed_steps(args.steps), args.reference_steps, args.patients, args.seed, args.split)
    names = [args.bundle, *([args.reference_bundle] if args.reference_bundle else [])]
    pipeline, *others = load_pipelines(names, "auto")
    reference = others[0] if others else pipeline
    if reference.bundle.sampling.scheduler == FEW_STEP:
        raise InputError(
            f"Expected a reference denoiser for {REFERENCE_SCHEDULER}, got the few-step denoiser of "
            f"{reference.bundle.name}.",
            "Name its teacher's bundle with --reference-bundle.",
        )
    with Bars() as bars:
        curve = measure_curve(args.curve, pipeline, config, args.out, bars.show, reference)
    show(args.out, "curve", curve, curve_markdown(curve))
    if args.store:
        from xray2ctpa_core.pipelines.loading import resolve_bundle

        info = store_curve(resolve_bundle(args.bundle), curve)
        sys.stdout.write(f"\nKept in {info.name} {info.version}, which is now sha256 {info.sha256}.\n")
    return EXIT_DONE


def radiograph_by_pillow(path: Path) -> "Radiograph":
    """A 16-bit PNG of a radiograph, read without the libraries of medical files, which a bare GPU machine
    lacks."""
    import numpy as np
    from PIL import Image

    from xray2ctpa_core.volume import Radiograph

    with Image.open(path) as image:
        pixels = np.asarray(image, np.float32)
    return Radiograph(pixels / 65535, name=path.name)


def parts(text: str) -> tuple[str, ...]:
    """ "papers,loaded" -> ("papers", "loaded"), for argparse."""
    named = tuple(text.split(","))
    if not set(named) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(PARTS)}, got {text!r}")
    return named


def price(text: str) -> tuple[str, float]:
    """ "cuda=2.5" -> ("cuda", 2.5), for argparse."""
    device, _, per_hour = text.partition("=")
    try:
        value = float(per_hour)
    except ValueError:
        value = -1.0
    if device not in ("cpu", "cuda") or not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected cpu=PER_HOUR or cuda=PER_HOUR, got {text!r}")
    return device, value


def parsed_steps(text: str) -> tuple[int, ...]:
    """ "2,4,6" -> (2, 4, 6); raises InputError for anything but rising numbers of at least 1."""
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        steps = ()
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1:
        raise InputError(f"Expected rising numbers of steps such as {CURVE_STEPS}, got {text!r}.")
    return steps


def show(out: Path | None, name: str, content: dict[str, Any], report: str) -> None:
    """Prints the report, and writes it and its numbers into ``out``."""
    if out is not None:
        write_json(out / f"{name}.json", content)
        write_text_atomically(out / f"{name}.md", report)
    sys.stdout.write(report)
