"""Stage 4: encodes a cohort's volumes once, with the latents' statistics per channel, and augments its films.

python Training/encode_latents.py --out runs/default/latents/train

Of real data, what preprocess_ctpa.py wrote (the window is the one that it clipped to):
python Training/encode_latents.py --out runs/rspect/latents --set layout=preprocessed \
    cohort=runs/rspect/ctpa autoencoder=/models/sd-vae-ft-mse "hu_window=[-100,900]"
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.cases import case_rows, read_case
from xray2ctpa_core.data.latents import INDEX_FILE, LATENTS_FILE, STATISTICS_FILE
from xray2ctpa_core.data.virtual_radiographs import write_frames
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.simulation.build import CTPA_FILE, patient_folders


@dataclass(frozen=True)
class Config:
    """layout: of the folder ``cohort`` to encode: "cohort" (virtual patients) or "preprocessed" (cases of
    preprocess_ctpa.py, every volume of each, without films); autoencoder: the codec, saved by stage
    3 or by train_vqgan.py, or any AutoencoderKL; patients: 0 for all; splits: of preprocessed cases those of
    these alone, all where it is empty; film_variants: augmented films of each virtual patient; workers:
    processes that augment, 0 for one a processor."""

    layout: str = "cohort"
    cohort: str = "runs/default/cohort/train"
    autoencoder: str = "runs/default/autoencoder/autoencoder"
    hu_window: tuple[float, ...] = DEFAULT_HU_WINDOW
    patients: int = 0
    splits: tuple[str, ...] = ()
    film_variants: int = 4
    workers: int = 0


def run(config: Config, out: Path, resume: bool) -> None:
    """Writes films.npy, latents.npy (N, C, D, H, W) float16, statistics.json and, last, index.json.

    index.json lists the patients' folders; of preprocessed cases, what `preprocessed_volumes` says of each
    volume, and there is no films.npy.
    """
    if resume and (out / INDEX_FILE).is_file():
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    codec = load_codec(config.autoencoder).to(device)
    index: list[Any]
    if config.layout == "preprocessed":
        index = preprocessed_volumes(Path(config.cohort), config.patients, config.hu_window, config.splits)
        volumes = [Path(entry["volume"]) for entry in index]
    elif config.layout == "cohort":
        folders = patient_folders(Path(config.cohort))[: config.patients or None]
        index, volumes = [str(folder) for folder in folders], [folder / CTPA_FILE for folder in folders]
    else:
        raise ConfigError(f"Expected the layout cohort or preprocessed, got {config.layout!r}.")
    out.mkdir(parents=True, exist_ok=True)
    if config.layout == "cohort":
        write_frames(folders, config.film_variants, out, config.workers or os.cpu_count() or 1, Bar("films"))
    bar, latents = Bar("latents"), []
    for number, volume in enumerate(volumes, 1):
        hu = torch.from_numpy(read_volume(volume).array.astype(np.float32)).to(device)
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            encoded = codec.encode(normalise_hu(hu, config.hu_window)[None, None])
        latents.append(encoded[0].cpu().numpy().astype(np.float16))
        bar(number, len(volumes))
    stacked = np.stack(latents)
    np.save(out / LATENTS_FILE, stacked)
    values = stacked.astype(np.float32)
    mean, std = values.mean((0, 2, 3, 4)), values.std((0, 2, 3, 4))
    gain = codec.channel_gains(torch.from_numpy(values[0]).to(device), torch.from_numpy(std).to(device))
    statistics = {"mean": mean.tolist(), "std": std.tolist(), "gain": gain}
    write_text_atomically(out / STATISTICS_FILE, json.dumps(statistics, indent=2) + "\n")
    write_text_atomically(
        out / INDEX_FILE,
        json.dumps(index, indent=0) + "\n",
    )


def preprocessed_volumes(
    cases: Path, patients: int, window: Sequence[float], splits: Sequence[str]
) -> list[dict[str, str]]:
    """One entry a volume: "volume" (its path), "id", "patient", "label" and "split" ("" where unknown).

    Args:
        cases: what preprocess_ctpa.py wrote.
        patients: cases to take, from the first; 0 for all.
        window: HU window to normalise by; the cases must have been clipped to it.
        splits: whose cases to take; all where it is empty.

    Raises:
        InputError: no case of these splits.
    """
    rows = [row for row in case_rows(cases) if not splits or row["split"] in splits]
    if not rows:
        raise InputError(f"Expected cases of the splits {', '.join(splits)} in {cases}, got none.")
    entries = []
    for row in rows[: patients or None]:
        folder = cases / row["folder"]
        record = read_case(folder)
        clipped = record["settings"]["window"]
        if list(window) != clipped:
            raise ConfigError(
                f"Expected hu_window={clipped}, to which {folder} was clipped, got {list(window)}.",
                f"Pass --set hu_window={json.dumps(clipped, separators=(',', ':'))}.",
            )
        case = {key: row[key] for key in ("id", "patient", "label", "split")}
        entries += [{"volume": str(folder / name)} | case for name in record["volumes"]]
    return entries


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"patients": 1, "workers": 1}))
