"""Packs a bank's encoder and denoiser as two xz files in half precision, and their configurations as a third.

python Training/carry_weights.py ENCODER DENOISER_FOLDER OUT     (done by device_default.sh)
python Training/carry_weights.py --unpack OUT ENCODER DENOISER_FOLDER     (restores loadable folders)
"""

import argparse
import json
import lzma
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load, load_file, save, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
#: Largest size of a file that can be returned from the device.
LARGEST_BYTES = 16 * 2**20


def pack(encoder: Path, denoiser: Path, out: Path) -> int:
    """Writes the files; returns 1 where one is larger than LARGEST_BYTES, else 0."""
    out.mkdir(parents=True, exist_ok=True)
    configurations = {}
    for name, folder in (("encoder", encoder), ("denoiser", denoiser / "denoiser")):
        tensors = load_file(folder / WEIGHTS)
        halved = {key: t.half() if t.is_floating_point() else t for key, t in tensors.items()}
        (out / f"{name}.safetensors.xz").write_bytes(lzma.compress(save(halved)))
        configurations[name] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    scheduler = denoiser / "scheduler" / "scheduler_config.json"
    configurations["scheduler"] = json.loads(scheduler.read_text(encoding="utf-8"))
    (out / "weights.json").write_text(json.dumps(configurations, indent=1), encoding="utf-8")
    sizes = {file.name: file.stat().st_size for file in sorted(out.glob("*.safetensors.xz"))}
    print(f"weights: {', '.join(f'{name} {size / 2**20:.1f} MiB' for name, size in sizes.items())}")
    return int(max(sizes.values()) > LARGEST_BYTES)


def unpack(packed: Path, encoder: Path, denoiser: Path) -> int:
    """Restores the packed folders, in single precision; returns 0."""
    configurations = json.loads((packed / "weights.json").read_text(encoding="utf-8"))
    for name, folder in (("encoder", encoder), ("denoiser", denoiser / "denoiser")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tensors = load(lzma.decompress((packed / f"{name}.safetensors.xz").read_bytes()))
        single = {key: t.float() if t.dtype == torch.half else t for key, t in tensors.items()}
        save_file(single, folder / WEIGHTS, {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(configurations[name], indent=2), encoding="utf-8")
    scheduler = denoiser / "scheduler"
    scheduler.mkdir(exist_ok=True)
    text = json.dumps(configurations["scheduler"], indent=2)
    (scheduler / "scheduler_config.json").write_text(text, encoding="utf-8")
    return 0


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs=3, type=Path)
    parser.add_argument("--unpack", action="store_true")
    args = parser.parse_args()
    return (unpack if args.unpack else pack)(*args.folders)


if __name__ == "__main__":
    sys.exit(main())
