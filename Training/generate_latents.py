"""Generated latents of a whole data set: one volume for each real one, from its radiograph (or from nothing).

python Training/generate_latents.py --out runs/mine/generated \\
    --set denoiser=runs/mine/denoiser latents=runs/mine/latents films=runs/mine/cxr
    autoencoder=/models/sd-vae-ft-mse

In place of the autoencoder decoder=FOLDER decodes, a tiny decoder (train_tiny_decoder.py).

What it writes is read as latents of encode_latents.py are: by train_paper_classifier.py, and, where
something decodes them, by train_slice_classifier.py.
"""

import json
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.latent_cases import LatentCase, LatentCases, read_latent_cases
from xray2ctpa_core.data.latents import INDEX_FILE, LATENTS_FILE, STATISTICS_FILE
from xray2ctpa_core.diffusion.sampling import initial_noise, sample_latents
from xray2ctpa_core.diffusion.schedulers import make_scheduler
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.models.codecs.codec import as_codec
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.models.denoisers.conditioned import NO_LABEL
from xray2ctpa_core.models.hu import denormalise_hu
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.pipelines.paper_run import PaperRun, load_paper_run
from xray2ctpa_core.training.arms import units, write_arm, write_pairs
from xray2ctpa_core.volume import Volume

PRECISIONS = ("no", "bf16")
SPACINGS = ("trailing", "leading")


@dataclass(frozen=True)
class Config:
    """denoiser: folder of train_paper_denoiser.py; latents, films: of the data set; autoencoder: that
    decodes; decoder: of train_tiny_decoder.py, which decodes in its place; nothing is decoded where both are
    empty; hu_window: that the latents' volumes were clipped to; scheduler, steps: the release takes ddpm with
    1000; spacing: of few steps, "trailing" begins with noise alone, "leading" a step after that, where a
    denoiser trained briefly says more; guidance_scale, label_scale: of classifier-free guidance; batch_size:
    has no influence on the results; precision: of the denoiser, "no" or "bf16"; seed: of the noise; split: of
    which cases pairs.csv lists pairs, "" for all; only: generates for the cases of these splits alone, all
    where it is empty; studies: of each split, after the first skip, and volumes: of each study; 0 for all;
    name, dataset: of the arm."""

    denoiser: str = "runs/paper/denoiser"
    latents: str = "runs/paper/latents"
    films: str = ""
    autoencoder: str = ""
    decoder: str = ""
    hu_window: tuple[float, ...] = PAPER_HU_WINDOW
    scheduler: str = "ddpm"
    steps: int = 1000
    spacing: str = "trailing"
    largest_latent: float = 0.0
    guidance_scale: float = 1.0
    label_scale: float = 1.0
    batch_size: int = 4
    precision: str = "no"
    seed: int = 1
    split: str = "test"
    only: tuple[str, ...] = ()
    studies: int = 0
    skip: int = 0
    volumes: int = 0
    name: str = ""
    dataset: str = ""


def run(config: Config, out: Path, resume: bool) -> None:
    """Writes what encode_latents.py does; where something decodes volumes/, pairs.csv and arm.json."""
    if (out / INDEX_FILE).is_file():
        if resume:
            return
        raise InputError(
            f"{out} already holds latents.", "Pass --resume to keep them, or choose another --out."
        )
    if config.spacing not in SPACINGS:
        raise ConfigError(f"Expected a spacing out of {', '.join(SPACINGS)}, got {config.spacing!r}.")
    if config.steps < 1 or config.batch_size < 1 or config.precision not in PRECISIONS:
        raise ConfigError(
            f"Expected steps and batch_size of at least 1 and precision out of {', '.join(PRECISIONS)}, got "
            f"{config.steps}, {config.batch_size}, {config.precision!r}."
        )
    parts = out / "parts"
    if not resume:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = chosen_cases(config, read_latent_cases(Path(config.latents)))
    generate_parts(config, cases, parts, device)
    volumes = [case.volume for case in cases]
    if config.autoencoder or config.decoder:
        volumes = decoded(config, cases, parts, out / "volumes", device)
        write_first_pairs(config, cases, volumes, out)
        write_arm(out, config.name or out.name, "generator", config.dataset)
    stacked = np.stack([np.load(part_file(parts, row)) for row in range(len(cases))])
    save_array(out / LATENTS_FILE, stacked.astype(np.float16))
    shutil.copyfile(Path(config.latents) / STATISTICS_FILE, out / STATISTICS_FILE)
    index = json.loads((Path(config.latents) / INDEX_FILE).read_text(encoding="utf-8"))
    entries = [index[case.row] | {"volume": str(v)} for case, v in zip(cases, volumes, strict=True)]
    write_text_atomically(out / INDEX_FILE, json.dumps(entries, indent=0) + "\n")
    shutil.rmtree(parts)


def generate_parts(config: Config, cases: Sequence[LatentCase], parts: Path, device: torch.device) -> None:
    """Writes the generated latents that are missing in ``parts``. The networks leave the device at its end:
    the decoder comes after them, not beside them."""
    trained = load_paper_run(Path(config.denoiser), device)
    if trained.encoder is not None and not config.films:
        raise ConfigError("A denoiser conditioned on films needs them, got none.", "Set films.")
    films = Path(config.films) if trained.encoder is not None else None
    data = LatentCases(Path(config.latents), cases, trained.scaling, films)
    bar = Bar("latents")
    missing = [row for row in range(len(cases)) if not part_file(parts, row).is_file()]
    for start in range(0, len(missing), config.batch_size):
        rows = missing[start : start + config.batch_size]
        generated = sampled(config, trained, data, rows, device)
        for row, latents in zip(rows, generated, strict=True):
            save_array(part_file(parts, row), latents.cpu().numpy())
        bar(len(cases) - len(missing) + start + len(rows), len(cases))


def chosen_cases(config: Config, cases: Sequence[LatentCase]) -> list[LatentCase]:
    """Those to generate for, in order.

    Raises:
        InputError: none.
    """
    volumes: Counter[str] = Counter()
    studies: dict[str, dict[str, int]] = defaultdict(dict)
    chosen = []
    for case in cases:
        if config.only and case.split not in config.only:
            continue
        number = studies[case.split].setdefault(case.id, len(studies[case.split])) - config.skip
        if number < 0 or (config.studies and number >= config.studies):
            continue
        volumes[case.id] += 1
        if not config.volumes or volumes[case.id] <= config.volumes:
            chosen.append(case)
    if not chosen:
        splits = ", ".join(sorted({case.split or "none" for case in cases}))
        raise InputError(f"Expected cases of the splits {', '.join(config.only)}, got cases of {splits}.")
    return chosen


@torch.no_grad()
def sampled(
    config: Config, trained: PaperRun, data: LatentCases, rows: Sequence[int], device: torch.device
) -> torch.Tensor:
    """(B, C, D, H, W) latents of the autoencoder; noise belongs to the case, not to the batch."""
    items = [data[(row, 0)] for row in rows]
    shape = tuple(items[0]["latents"].shape)
    drawn = [initial_noise(shape, config.seed, 2 * data.cases[row].row, device) for row in rows]
    films = torch.stack([item["image"] for item in items]).to(device) if "image" in items[0] else None
    known = [data.cases[row].label for row in rows]
    labels = torch.tensor([NO_LABEL if label is None else label for label in known], device=device)
    largest = config.largest_latent or (1.0 if trained.scaling.clip else 5.0)
    model = trained.sampler(films, labels, config.guidance_scale, config.label_scale, largest)
    scheduler = make_scheduler(config.scheduler, trained.scheduler)
    scheduler = type(scheduler).from_config(scheduler.config, timestep_spacing=config.spacing)
    noise = torch.cat([first for first, _ in drawn])
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        latents = sample_latents(model, scheduler, noise, config.steps, [generator for _, generator in drawn])
    return trained.scaling.invert(latents)


@torch.no_grad()
def decoded(
    config: Config, cases: Sequence[LatentCase], parts: Path, folder: Path, device: torch.device
) -> list[Path]:
    """The decoded volumes' files, on the grids of the real ones."""
    if config.decoder:
        tiny = TinyDecoder.from_pretrained(config.decoder, use_safetensors=True).to(device).eval()
        decode = as_codec(tiny).decode
    else:
        decode = load_codec(config.autoencoder).to(device).decode
    folder.mkdir(exist_ok=True)
    bar, files = Bar("volumes"), []
    for number, case in enumerate(cases):
        files.append(folder / f"{case.row:05d}.nii.gz")
        if not files[-1].is_file():
            latents = torch.from_numpy(np.load(part_file(parts, number)))[None].to(device)
            hu = denormalise_hu(decode(latents)[0, 0], config.hu_window).cpu().numpy()
            partial = files[-1].with_name(f"partial-{files[-1].name}")
            write_volume(Volume(hu, read_volume(case.volume).affine), partial, np.int16)
            os.replace(partial, files[-1])
        bar(number + 1, len(cases))
    return files


def write_first_pairs(
    config: Config, cases: Sequence[LatentCase], volumes: Sequence[Path], out: Path
) -> None:
    """Writes pairs.csv: the first volume of each study, real and generated."""
    rows: dict[str, tuple[str, str, str]] = {}
    for unit, case, volume in zip(units(cases), cases, volumes, strict=True):
        if not config.split or case.split.lower().startswith(config.split):
            real = os.path.relpath(case.volume, out)
            rows.setdefault(unit, (unit, real, os.path.relpath(volume, out)))
    write_pairs(out, list(rows.values()))


def part_file(parts: Path, row: int) -> Path:
    """Where the latents of one of the cases lie until all are there."""
    return parts / f"{row:06d}.npy"


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes ``array`` whole or not at all."""
    partial = path.with_name(f"partial-{path.name}")
    np.save(partial, array)
    os.replace(partial, path)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"steps": 2}))
