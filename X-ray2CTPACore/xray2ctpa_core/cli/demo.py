"""`xray2ctpa demo`: the whole pipeline on the radiograph that ships with the package, or on another."""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from xray2ctpa_core.cli.generate import HYPOTHESIS, add_sampling_arguments, generator_for, stem
from xray2ctpa_core.cli.view import has_screen, require_viewer
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW, EXIT_DONE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.events import only_events_on_stdout
from xray2ctpa_core.generation.samples import SAMPLE_CTPA, SAMPLE_CXR, sample_facts
from xray2ctpa_core.io import result_files
from xray2ctpa_core.wording import scored

RESULTS = Path("demo-result")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="generate from the radiograph that ships with the package",
        description="Generates from the radiograph of a virtual patient that was not used in training, and "
        "compares the volume with that patient's true CTPA; or from another radiograph. " + HYPOTHESIS,
    )
    parser.add_argument("--cxr", type=Path, metavar="PATH", help="another radiograph")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"result folder (default: one in {RESULTS} here)"
    )
    parser.add_argument(
        "--view", action="store_true", help="show the result in a browser afterwards (extra: viewer)"
    )
    add_sampling_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.view:
        require_viewer()
    source = args.cxr or SAMPLE_CXR
    if not args.cxr and not SAMPLE_CXR.is_file():
        raise InputError(
            f"Expected the sample radiograph {SAMPLE_CXR}, got none.", "Install the package again."
        )
    with only_events_on_stdout(args) as reporter:
        generator = generator_for(args, reporter)
        target = args.out or default_target(source, generator.info.sha256)
        content = generator.generate(source, target)
    if not args.events:
        agreement = None if args.cxr else agreement_with_truth(target, content)
        sys.stdout.write("\n".join(["", *summary(target.absolute(), content, agreement)]) + "\n")
        if not args.view:
            show(target / result_files.PREVIEW)
    return show_in_new_process(target, source, args.bundle) if args.view else EXIT_DONE


def show_in_new_process(folder: Path, radiograph: Path, bundle: str) -> int:
    """Continues as `xray2ctpa view` in a process without torch, which rendering does not need."""
    subject = [str(folder), "--cxr", str(radiograph)] if radiograph.is_file() else [str(folder)]
    command = [sys.executable, "-P", "-m", "xray2ctpa_core", "view", *subject, "--bundle", bundle]
    sys.stdout.flush()
    if os.name == "nt":  # there a replaced process would lose its terminal
        return subprocess.call(command)
    os.execv(command[0], command)


def default_target(source: Path, bundle_sha256: str) -> Path:
    """A separate folder for every pair of radiograph and bundle, so that results do not collide."""
    pair = hashlib.sha256(f"{source.absolute()} {bundle_sha256}".encode()).hexdigest()
    return RESULTS / f"{stem(source)}-{pair[:8]}"


def agreement_with_truth(folder: Path, content: dict[str, Any]) -> dict[str, float]:
    """PSNR in dB and SSIM of the generated volume against the sample patient's true CTPA, -1000..900 HU.

    Args:
        folder: the result.
        content: its result.json.
    """
    from xray2ctpa_core.io.volumes import read_volume
    from xray2ctpa_core.metrics.image import psnr, ssim
    from xray2ctpa_core.pipelines.geometry import on_frame
    from xray2ctpa_core.volume import FrontalFrame

    truth = read_volume(SAMPLE_CTPA).array
    true_frame = FrontalFrame(**sample_facts()["frame"])
    frame = FrontalFrame(**content["geometry"]["frame_in_film_pixels"])
    generated = on_frame(read_volume(folder / result_files.CTPA).array, frame, true_frame)
    return {
        "psnr_db": psnr(generated, truth, DEFAULT_HU_WINDOW),
        "ssim": ssim(generated, truth, DEFAULT_HU_WINDOW),
    }


def summary(folder: Path, content: dict[str, Any], agreement: dict[str, float] | None) -> list[str]:
    """The final report of the demonstration."""
    shape = " x ".join(map(str, content["geometry"]["shape"]))
    lines = [
        f"Volume:      {folder / result_files.CTPA} ({shape} voxels, HU)",
        f"PE:          {scored(content['pe'])}" + (known_truth() if agreement else ""),
    ]
    if agreement:
        lines.append(
            f"Agreement:   PSNR {agreement['psnr_db']:.1f} dB, SSIM {agreement['ssim']:.2f} with this "
            "virtual patient's true CTPA (-1000..900 HU)"
        )
    return [
        *lines,
        f"Preview:     {folder / result_files.PREVIEW}",
        f"In a browser: xray2ctpa view {folder} (`make demo VIEW=1` does it at once)",
        "Elsewhere:   drag ctpa.nii.gz and gradcam.nii.gz into 3D Slicer, ITK-SNAP or any other NIfTI viewer",
        content["notice"],
    ]


def known_truth() -> str:
    """A sentence with the sample patient's true label, after a space."""
    has_pe = sample_facts()["pe"]
    return f" This virtual patient has {'' if has_pe else 'no '}PE."


def show(picture: Path) -> None:
    """Opens the preview if the command was started at a screen."""
    if has_screen():
        from PIL import Image

        with Image.open(picture) as image:
            image.show()
