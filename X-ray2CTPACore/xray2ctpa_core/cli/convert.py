"""`xray2ctpa convert KIND CHECKPOINT OUT`: a published checkpoint as a folder of safetensors and JSON."""

import argparse
import sys
from pathlib import Path
from typing import Any

from xray2ctpa_core import config
from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.io.result_folder import ResultFolder

KINDS = ("upstream-denoiser", "upstream-classifier", "cmkd-prior")
PROVENANCE_FILE = "conversion.json"
#: The largest network: CMKD's prior, 49 million parameters of 4 bytes, and what is said of them.
_NEEDED_BYTES = 200 << 20


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="read a checkpoint of the published code",
        description="Converts a checkpoint in the format of the published X-ray2CTPA or CMKD code into a "
        f"folder of safetensors and JSON. Where it comes from is kept in {PROVENANCE_FILE}. LoRA updates are "
        "merged. A checkpoint that holds anything but tensors is not read; of cmkd-prior, one that holds "
        "anything but what its trainer saves.",
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=" or ".join(KINDS))
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .pt file")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder")
    parser.add_argument(
        "--weights",
        choices=("ema", "model"),
        help="averaged weights or the last ones (default: ema where the file has them)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; a checkpoint that does not fit is raised as BundleError (exit code 3)."""
    with ResultFolder(args.out, _NEEDED_BYTES) as folder:
        network: Any
        if args.kind == "cmkd-prior":
            from xray2ctpa_core.diffusion.latent_scaling import save_scaling
            from xray2ctpa_core.pipelines.convert_cmkd import convert_prior

            prior = convert_prior(args.checkpoint, args.weights)
            network, conversion = prior.network, prior.conversion
            prior.scheduler.save_pretrained(folder.path)
            save_scaling(prior.scaling, folder.path)
        else:
            from xray2ctpa_core.pipelines import convert as upstream

            convert = upstream.convert_denoiser if args.kind == KINDS[0] else upstream.convert_classifier
            network, conversion = convert(args.checkpoint, args.weights)
        network.save_pretrained(folder.path, safe_serialization=True)
        config.save(conversion, folder.path / PROVENANCE_FILE)
        folder.publish()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    lora = f", {len(conversion.merged_lora)} LoRA layers merged" if conversion.merged_lora else ""
    sys.stdout.write(f"{args.out}: {type(network).__name__} of {parameters:,} parameters\n")
    sys.stdout.write(f"{conversion.weights} of {conversion.source}, {len(conversion.keys)} tensors{lora}\n")
    return EXIT_DONE
