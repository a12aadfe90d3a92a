"""`xray2ctpa check INPUT`: report of the input gate on a radiograph, without generating anything."""

import argparse
import json
import sys
from pathlib import Path

from xray2ctpa_core.cli.generate import add_bundle
from xray2ctpa_core.constants import EXIT_DONE, EXIT_NOT_FRONTAL_CXR
from xray2ctpa_core.generation.result_json import gate_content, input_content
from xray2ctpa_core.pipelines.loading import load_bundle
from xray2ctpa_core.wording import one_line


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "check",
        help="check whether an image is a frontal chest radiograph, and list doubts",
        description=__doc__,
    )
    parser.add_argument("input", type=Path, metavar="INPUT", help="as for generate")
    add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print JSON on one line; the exit code is then 0")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; without --json the exit code is 4 for a radiograph that the gate refuses."""
    from xray2ctpa_core.io.radiograph import read_radiograph

    radiograph = read_radiograph(args.input)
    folder, info = load_bundle(args.bundle)
    from xray2ctpa_core.models.framing.lung_locator import LungLocator
    from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
    from xray2ctpa_core.pipelines.geometry import size_doubts, size_sentence
    from xray2ctpa_core.preprocessing.sides import marker_sentence

    locator = LungLocator.from_pretrained(folder / "lung_locator", use_safetensors=True).eval()
    reading = frame_radiograph(locator, radiograph)
    gate = reading.gate
    where = (reading.radiograph, reading.frame, info.geometry)
    size, doubts = size_sentence(*where), [d for d in size_doubts(*where) if d != size_sentence(*where)]
    marker = marker_sentence(reading.marker) if gate.accepted else "not looked for"
    if args.json:
        content = {
            "input": input_content(reading.radiograph),
            "gate": {**gate_content(gate), "accepted": bool(gate.accepted)},
            "size": size,
            "side_marker": marker,
        }
        sys.stdout.write(json.dumps(content) + "\n")
        return EXIT_DONE
    verdict = "accepted" if gate.accepted else "refused"
    lines = [f"{radiograph.name}: {verdict} as a frontal chest radiograph (score {gate.is_frontal_cxr:.2f})"]
    lines += [f"Greys: {radiograph.greys}", f"Size: {size}", f"Side marker: {marker}"]
    lines += [*reading.radiograph.notes, *gate.warnings, *doubts]
    sys.stdout.write("".join(one_line(line) + "\n" for line in lines))
    return EXIT_DONE if gate.accepted else EXIT_NOT_FRONTAL_CXR
