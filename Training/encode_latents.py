"""Stage 4: encodes a cohort's volumes once, with the latents' statistics per channel, and augments its films.

python Training/encode_latents.py --out runs/default/latents/train
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.cohort.build import CTPA_FILE, patient_folders
from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.datasets.latents import INDEX_FILE, LATENTS_FILE, STATISTICS_FILE
from xray2ctpa_core.datasets.virtual_films import write_frames
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.networks.hu import normalise_hu
from xray2ctpa_core.networks.slices import (
    slices_to_volumes,
    to_autoencoder,
    volumes_to_slices,
)


@dataclass(frozen=True)
class Config:
    """cohort: folder to encode; autoencoder: saved by stage 3; patients: 0 for all; film_variants: augmented
    films of each patient; workers: processes that augment, 0 for one a processor."""

    cohort: str = "runs/default/cohort/train"
    autoencoder: str = "runs/default/autoencoder/autoencoder"
    hu_window: tuple[float, ...] = DEFAULT_HU_WINDOW
    patients: int = 0
    film_variants: int = 4
    workers: int = 0


def run(config: Config, out: Path, resume: bool) -> None:
    """Writes films.npy, latents.npy (N, C, D, H, W) float16, statistics.json and, last, index.json."""
    if resume and (out / INDEX_FILE).is_file():
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    autoencoder = AutoencoderKL.from_pretrained(config.autoencoder).to(device).eval()
    folders = patient_folders(Path(config.cohort))[: config.patients or None]
    out.mkdir(parents=True, exist_ok=True)
    write_frames(folders, config.film_variants, out, config.workers or os.cpu_count() or 1, Bar("films"))
    bar, latents = Bar("latents"), []
    for number, folder in enumerate(folders, 1):
        hu = torch.from_numpy(read_volume(folder / CTPA_FILE).array.astype(np.float32)).to(device)
        slices = volumes_to_slices(normalise_hu(hu, config.hu_window)[None, None])
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            encoded = autoencoder.encode(to_autoencoder(slices, autoencoder.config["in_channels"]))
        latents.append(
            slices_to_volumes(encoded.latent_dist.mean.float(), 1)[0].cpu().numpy().astype(np.float16)
        )
        bar(number, len(folders))
    stacked = np.stack(latents)
    np.save(out / LATENTS_FILE, stacked)
    values = stacked.astype(np.float32)
    mean, std = values.mean((0, 2, 3, 4)), values.std((0, 2, 3, 4))
    gain = channel_gains(
        autoencoder, torch.from_numpy(values[0]).to(device), torch.from_numpy(std).to(device)
    )
    statistics = {"mean": mean.tolist(), "std": std.tolist(), "gain": gain}
    write_text_atomically(out / STATISTICS_FILE, json.dumps(statistics, indent=2) + "\n")
    write_text_atomically(
        out / INDEX_FILE,
        json.dumps([str(folder) for folder in folders], indent=0) + "\n",
    )


@torch.no_grad()
def channel_gains(autoencoder: AutoencoderKL, latents: torch.Tensor, std: torch.Tensor) -> list[float]:
    """Root mean square change of the decoded slices when a channel changes by its standard deviation.

    Args:
        autoencoder: the codec.
        latents: (C, D, h, w) of one volume; every fourth slice is used.
        std: (C,) standard deviations.
    """
    slices = latents.transpose(0, 1)[::4]
    decoded = autoencoder.decode(slices).sample
    noise = torch.randn(slices.shape, generator=torch.Generator().manual_seed(0)).to(slices)
    gains = []
    for channel in range(slices.shape[1]):
        moved = slices.clone()
        moved[:, channel] += std[channel] * noise[:, channel]
        gains.append(float((autoencoder.decode(moved).sample - decoded).square().mean().sqrt()))
    return gains


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"patients": 1, "workers": 1}))
