"""`xray2ctpa convert KIND CHECKPOINT OUT`: a published checkpoint as a folder of safetensors and JSON."""

import argparse
import importlib
import sys
from pathlib import Path

from xray2ctpa_core import config
from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.result_folder import ResultFolder

#: Module of xray2ctpa_core.pipelines and function in it that convert each kind.
CONVERTERS = {
    "upstream-denoiser": ("convert", "convert_denoiser"),
    "upstream-classifier": ("convert", "convert_classifier"),
    "xctdiff-vqgan": ("convert_xctdiff", "convert_vqgan"),
    "xctdiff-encoder": ("convert_xctdiff", "convert_encoder"),
    "xctdiff-denoiser": ("convert_xctdiff", "convert_denoiser"),
}
KINDS = tuple(CONVERTERS)
PROVENANCE_FILE = "conversion.json"
#: The largest network: some 36 million parameters of 4 bytes, and what is said of them.
_NEEDED_BYTES = 150 << 20


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="read a checkpoint of the published code",
        description="Converts a checkpoint in the format of the published X-ray2CTPA or XctDiff code into a "
        f"folder of safetensors and JSON. Where it comes from is kept in {PROVENANCE_FILE}. LoRA updates are "
        "merged. A checkpoint that holds anything but tensors is not read.",
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=" or ".join(KINDS))
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .pt or .ckpt file")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder")
    parser.add_argument(
        "--weights",
        choices=("ema", "model"),
        help="averaged weights or the last ones (default: ema where the file has them)",
    )
    parser.add_argument(
        "--groups",
        type=int,
        metavar="N",
        help="of an XctDiff network: groups of its normalisations, which no tensor shows (default: those of "
        "the published configuration)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; a checkpoint that does not fit is raised as BundleError (exit code 3)."""
    if args.groups is not None and not args.kind.startswith("xctdiff"):
        raise InputError(f"Expected --groups for an XctDiff network alone, got it for {args.kind}.")
    with ResultFolder(args.out, _NEEDED_BYTES) as folder:
        module, function = CONVERTERS[args.kind]
        convert = getattr(importlib.import_module(f"xray2ctpa_core.pipelines.{module}"), function)
        settings = {} if args.groups is None else {"groups": args.groups}
        network, conversion = convert(args.checkpoint, args.weights, **settings)
        network.save_pretrained(folder.path, safe_serialization=True)
        config.save(conversion, folder.path / PROVENANCE_FILE)
        folder.publish()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    lora = f", {len(conversion.merged_lora)} LoRA layers merged" if conversion.merged_lora else ""
    sys.stdout.write(f"{args.out}: {type(network).__name__} of {parameters:,} parameters\n")
    sys.stdout.write(f"{conversion.weights} of {conversion.source}, {len(conversion.keys)} tensors{lora}\n")
    return EXIT_DONE
