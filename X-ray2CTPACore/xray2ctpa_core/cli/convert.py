"""`xray2ctpa convert KIND CHECKPOINT OUT`: a published checkpoint as a folder of safetensors and JSON."""

import argparse
import importlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray2ctpa_core import config
from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.result_folder import ResultFolder
from xray2ctpa_core.pipelines.bundle import PROVENANCE_FILE

if TYPE_CHECKING:
    from xray2ctpa_core.pipelines.convert import Conversion
    from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline

#: Module of xray2ctpa_core.pipelines and function in it that convert each kind of network.
NETWORKS = {
    "upstream-denoiser": ("convert", "convert_denoiser"),
    "upstream-classifier": ("convert", "convert_classifier"),
    "cmkd-prior": ("convert_cmkd", "convert_prior"),
    "xctdiff-vqgan": ("convert_xctdiff", "convert_vqgan"),
    "xctdiff-encoder": ("convert_xctdiff", "convert_encoder"),
    "xctdiff-denoiser": ("convert_xctdiff", "convert_denoiser"),
}
BUNDLES = ("x-ray2ctpa", "xctdiff")
KINDS = (*BUNDLES, *NETWORKS)
XCTDIFF = tuple(kind for kind in KINDS if kind.startswith("xctdiff"))
#: Disk space for the largest network: CMKD's prior, 49 million parameters of 4 bytes, and their metadata.
_NEEDED_BYTES = 200 << 20
#: Disk space for a bundle: Stable Diffusion's AutoencoderKL, BiomedCLIP's image tower, smaller networks.
_BUNDLE_BYTES = 800 << 20


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="read a checkpoint of the published code",
        description="Converts a checkpoint in the format of the published X-ray2CTPA, CMKD or XctDiff code "
        f"into a folder of safetensors and JSON. Its provenance is saved in {PROVENANCE_FILE}. LoRA updates "
        "are merged. A checkpoint with other objects than tensors is refused (cmkd-prior: with other objects "
        "than its trainer saves).",
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=" or ".join(KINDS))
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .pt or .ckpt file")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder")
    parser.add_argument(
        "--weights",
        choices=("ema", "model"),
        help="averaged weights (ema) or the last ones (default: ema where the file has them)",
    )
    parser.add_argument(
        "--groups",
        type=int,
        nargs="+",
        metavar="N",
        help="denoiser, XctDiff: groups of the normalisations, which cannot be inferred from tensors "
        "(xctdiff: of codec, encoder and denoiser; default: the published configuration's, 8 32 8)",
    )
    bundle = parser.add_argument_group(" and ".join(BUNDLES), "a whole system as a bundle that generate runs")
    bundle.add_argument(
        "--codec",
        type=Path,
        metavar="PATH",
        help="x-ray2ctpa: folder of the AutoencoderKL; xctdiff: checkpoint of the VQGAN, if the denoiser's "
        "checkpoint does not contain it",
    )
    bundle.add_argument(
        "--encoder",
        metavar="PATH|NAME",
        help="x-ray2ctpa: folder of the radiograph encoder, or its name, biomedclip; xctdiff: the "
        "progressive encoder's checkpoint, if the denoiser's checkpoint does not contain it",
    )
    bundle.add_argument(
        "--classifier", type=Path, metavar="CHECKPOINT", help="x-ray2ctpa: checkpoint of the PE classifier"
    )
    bundle.add_argument(
        "--hu-window",
        type=float,
        nargs=2,
        metavar=("LOWER", "UPPER"),
        help="HU window of the codec (x-ray2ctpa -100 900, xctdiff -1000 1500)",
    )
    bundle.add_argument(
        "--latent-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="x-ray2ctpa: range of the latents, scaled by 0.18215 (-12.911299 9.596558)",
    )
    bundle.add_argument(
        "--latent-grid",
        type=int,
        nargs=3,
        metavar=("D", "H", "W"),
        help="x-ray2ctpa: grid of the latents (64 32 32)",
    )
    bundle.add_argument(
        "--extent-mm",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="extent of every volume (x-ray2ctpa 260 210 290, xctdiff 320 320 320)",
    )
    bundle.add_argument(
        "--latent-scale",
        type=float,
        metavar="S",
        help="xctdiff: factor of the latents in its configuration (default: the checkpoint's, else 0.6)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; raises BundleError (exit code 3) for a checkpoint that does not fit."""
    if args.groups is not None and args.kind not in ("upstream-denoiser", *XCTDIFF):
        raise InputError(
            f"Expected --groups only for a denoiser or an XctDiff network, got it for {args.kind}."
        )
    if args.latent_scale is not None and args.kind != "xctdiff":
        raise InputError(f"Expected --latent-scale only for xctdiff, got it for {args.kind}.")
    return _convert_bundle(args) if args.kind in BUNDLES else _convert_network(args)


def _convert_bundle(args: argparse.Namespace) -> int:
    convert = _x_ray2ctpa if args.kind == "x-ray2ctpa" else _xctdiff
    with ResultFolder(args.out, _BUNDLE_BYTES) as folder:
        pipeline, conversion = convert(args, args.out.resolve().name)
        config.save(conversion, folder.path / PROVENANCE_FILE)
        pipeline.save_pretrained(folder.path)
        folder.publish()
    sys.stdout.write(f"{args.out}: a bundle; xray2ctpa generate RADIOGRAPH --bundle {args.out}\n")
    return EXIT_DONE


def _x_ray2ctpa(args: argparse.Namespace, name: str) -> tuple["XRay2CTPAPipeline", "Conversion"]:
    if args.codec is None or args.encoder is None:
        raise InputError(
            f"{args.kind} needs --codec and --encoder, got not both.",
            "--codec names the folder of the AutoencoderKL, --encoder that of the encoder, or biomedclip.",
        )
    from xray2ctpa_core.pipelines.convert_bundle import PublishedSettings, convert_x_ray2ctpa

    given = {
        "hu_window": args.hu_window,
        "latent_grid": args.latent_grid,
        "extent_mm": args.extent_mm,
        "latent_low": args.latent_range and args.latent_range[0],
        "latent_high": args.latent_range and args.latent_range[1],
    }
    settings = PublishedSettings(**_told(given))
    return convert_x_ray2ctpa(
        args.checkpoint, args.codec, args.encoder, settings, args.weights, args.classifier, name
    )


def _xctdiff(args: argparse.Namespace, name: str) -> tuple["XRay2CTPAPipeline", "Conversion"]:
    from xray2ctpa_core.pipelines.convert_xctdiff_bundle import PublishedSettings, convert_xctdiff_bundle

    if args.groups is not None and len(args.groups) != len(PublishedSettings.groups):
        raise InputError(
            f"Expected the groups of codec, encoder and denoiser for xctdiff, got {args.groups}.",
            "Write --groups 8 32 8, with other numbers.",
        )
    if args.latent_scale is not None and not 0 < args.latent_scale < math.inf:
        raise InputError(f"Expected a positive --latent-scale, got {args.latent_scale}.")
    given = {
        "hu_window": args.hu_window,
        "extent_mm": args.extent_mm,
        "groups": args.groups,
        "latent_scale": args.latent_scale,
    }
    settings = PublishedSettings(**_told(given))
    encoder = None if args.encoder is None else Path(args.encoder)
    return convert_xctdiff_bundle(args.checkpoint, settings, args.codec, encoder, args.weights, name)


def _told(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that were given, with lists as tuples."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in given.items()
        if value is not None
    }


def _convert_network(args: argparse.Namespace) -> int:
    if args.groups is not None and len(args.groups) != 1:
        raise InputError(f"Expected one number of groups for a network, got {args.groups}.")
    with ResultFolder(args.out, _NEEDED_BYTES) as folder:
        module, function = NETWORKS[args.kind]
        convert = getattr(importlib.import_module(f"xray2ctpa_core.pipelines.{module}"), function)
        settings = {} if args.groups is None else {"groups": args.groups[0]}
        found = convert(args.checkpoint, args.weights, **settings)
        if args.kind == "cmkd-prior":
            from xray2ctpa_core.diffusion.latent_scaling import save_scaling

            found.scheduler.save_pretrained(folder.path)
            save_scaling(found.scaling, folder.path)
            network, conversion = found.network, found.conversion
        else:
            network, conversion = found
        network.save_pretrained(folder.path, safe_serialization=True)
        config.save(conversion, folder.path / PROVENANCE_FILE)
        folder.publish()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    lora = f", {len(conversion.merged_lora)} LoRA layers merged" if conversion.merged_lora else ""
    sys.stdout.write(f"{args.out}: {type(network).__name__} of {parameters:,} parameters\n")
    sys.stdout.write(f"{conversion.weights} of {conversion.source}, {len(conversion.keys)} tensors{lora}\n")
    return EXIT_DONE
