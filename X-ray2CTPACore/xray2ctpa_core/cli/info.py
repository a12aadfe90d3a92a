"""`xray2ctpa info BUNDLE`: description, training data and measured quality of a bundle."""

import argparse
import json
import sys
from dataclasses import asdict

from xray2ctpa_core.constants import DEFAULT_BUNDLE, EXIT_DONE
from xray2ctpa_core.pipelines.bundle import BundleInfo, read_bundle_json
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.wording import counted


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser("info", help="describe a bundle", description=__doc__)
    parser.add_argument("bundle", nargs="?", default=DEFAULT_BUNDLE, metavar="BUNDLE")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    info = read_bundle_json(resolve_bundle(args.bundle))
    if args.json:
        text = json.dumps(asdict(info) | {"sha256": info.sha256}, indent=2)
    else:
        text = "\n".join(f"{label + ':':<22}{value}" for label, value in described(info))
    sys.stdout.write(text + "\n")
    return EXIT_DONE


def described(info: BundleInfo) -> list[tuple[str, str]]:
    """The bundle's facts as (label, text), with one entry for each metric."""
    grid = " x ".join(map(str, info.geometry.grid))
    calibrated = "calibrated" if info.pe.calibrated else "not calibrated"
    facts = [
        ("name", f"{info.name} {info.version}" + (" (a demonstration)" if info.is_demonstration else "")),
        ("licence", info.licence),
        ("trained on", info.trained_on),
        ("intended use", info.intended_use),
        ("output", f"{grid} voxels (D x H x W), {info.hu_window[0]:g} to {info.hu_window[1]:g} HU"),
        ("conditioning", info.conditioning),
        (
            "sampling",
            f"{info.sampling.scheduler}, {counted(info.sampling.steps, 'step')}, "
            f"{counted(info.sampling.samples, 'sample')}",
        ),
        ("PE operating point", f"{info.pe.threshold:.3f} ({calibrated})"),
        ("files", str(len(info.files))),
        ("sha256", info.sha256),
    ]
    return facts + [(f"measured {name}", _metric(value)) for name, value in info.metrics.items()]


def _metric(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_metric(part)}" for name, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
