"""Step that encodes volumes: a file of latents for each, an index, statistics of the training studies."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.encoding import encode_studies, write_statistics
from xray2ctpa_core.data.volumes import check_window, study_volumes
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.training.settings.preprocessing import LatentsSettings


def latents(config: LatentsSettings, out: Path) -> None:
    """Writes cases/*/latents-*.npy (C, D, H, W) float16, index.csv and, last, statistics.json."""

    entries = study_volumes(Path(config.studies), config.splits, config.patients)
    for entry in entries:
        check_window(entry, config.hu_window)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    codec = load_codec(config.autoencoder).to(device)

    @torch.no_grad()
    def encode(hu: np.ndarray) -> np.ndarray:
        volume = normalise_hu(torch.from_numpy(hu).to(device), config.hu_window)[None, None]
        with torch.autocast(device, torch.bfloat16):
            return codec.encode(volume)[0].float().cpu().numpy()

    settings = {"hu_window": list(config.hu_window), "codec_sha256": digest(Path(config.autoencoder))}
    radiographs = Path(config.radiographs) if config.radiographs else None
    cases, lines = encode_studies(out, entries, encode, settings, radiographs, Bar("latents"))
    print("\n".join(lines))

    def gains(example: np.ndarray, std: list[float]) -> list[float]:
        return codec.channel_gains(torch.from_numpy(example).to(device), torch.tensor(std, device=device))

    write_statistics(out, cases, gains)


def digest(folder: Path) -> str:
    """SHA-256 of a network's configuration and weights."""
    found = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file():
            found.update(file.name.encode())
            with file.open("rb") as stream:
                found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()
