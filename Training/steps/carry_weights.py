"""Packs a bank's encoder and denoiser as two xz files in half precision, and their configurations in one."""

import json
import lzma
import shutil
from pathlib import Path

import torch
from safetensors.torch import load, load_file, save, save_file

from xray2ctpa_core.config import write_json
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.training.settings.people import PackWeightsSettings, UnpackWeightsSettings

WEIGHTS = "diffusion_pytorch_model.safetensors"
#: Largest size of a file that can be returned from the device.
LARGEST_BYTES = 16 * 2**20


def pack(config: PackWeightsSettings, out: Path) -> None:
    """Writes encoder.safetensors.xz, denoiser.safetensors.xz and weights.json.

    Raises:
        InputError: a file is larger than LARGEST_BYTES.
    """
    configurations = {}
    denoiser = Path(config.denoiser)
    for name, folder in (("encoder", Path(config.encoder)), ("denoiser", denoiser / "denoiser")):
        tensors = load_file(folder / WEIGHTS)
        halved = {key: t.half() if t.is_floating_point() else t for key, t in tensors.items()}
        (out / f"{name}.safetensors.xz").write_bytes(lzma.compress(save(halved)))
        configurations[name] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    scheduler = denoiser / "scheduler" / "scheduler_config.json"
    configurations["scheduler"] = json.loads(scheduler.read_text(encoding="utf-8"))
    sizes = {file.name: file.stat().st_size for file in sorted(out.glob("*.safetensors.xz"))}
    print(f"weights: {', '.join(f'{name} {size / 2**20:.1f} MiB' for name, size in sizes.items())}")
    if large := [name for name, size in sizes.items() if size > LARGEST_BYTES]:
        raise InputError(
            f"Expected files of at most {LARGEST_BYTES / 2**20:.0f} MiB, got larger {', '.join(large)}."
        )
    write_json(out / "weights.json", configurations, indent=1)


def unpack(config: UnpackWeightsSettings, out: Path) -> None:
    """Writes ``out``/encoder, and ``out``/denoiser as the step bank-denoiser does."""
    packed, denoiser = Path(config.weights), out / "denoiser"
    configurations = json.loads((packed / "weights.json").read_text(encoding="utf-8"))
    for name, folder in (("encoder", out / "encoder"), ("denoiser", denoiser / "denoiser")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tensors = load(lzma.decompress((packed / f"{name}.safetensors.xz").read_bytes()))
        single = {key: t.float() if t.dtype == torch.half else t for key, t in tensors.items()}
        save_file(single, folder / WEIGHTS, {"format": "pt"})
        write_json(folder / "config.json", configurations[name])
    write_json(denoiser / "scheduler" / "scheduler_config.json", configurations["scheduler"])
