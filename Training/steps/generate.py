"""Step that generates a volume for each real one, from its radiograph or unconditionally.

Its output has the form of encoded volumes (step latents).
"""

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import replacing
from xray2ctpa_core.data.cases import save_array
from xray2ctpa_core.data.latent_cases import INDEX_FILE, LatentCase, read_latent_cases, write_latent_cases
from xray2ctpa_core.data.latents import STATISTICS_FILE
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.diffusion.sampling import initial_noise, sample_latents
from xray2ctpa_core.diffusion.schedulers import make_scheduler
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.models.codecs.as_codec import as_codec
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.models.denoisers.conditioned import NO_LABEL
from xray2ctpa_core.models.hu import denormalise_hu
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.pipelines.paper_run import PaperRun, load_paper_run
from xray2ctpa_core.training.arms import units, write_arm, write_pairs
from xray2ctpa_core.training.settings.generation import GenerateSettings
from xray2ctpa_core.volume import Volume


def run(config: GenerateSettings, out: Path) -> None:
    """Writes latents/*.npy, index.csv and statistics.json; with a decoder also volumes/, pairs.csv and
    arm.json."""
    if (out / INDEX_FILE).is_file():
        return
    parts = out / "latents"
    parts.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = chosen_cases(config, read_latent_cases(Path(config.latents)))
    generate_parts(config, cases, parts, device)
    volumes = [case.volume for case in cases]
    if config.autoencoder or config.decoder:
        volumes = decoded(config, cases, parts, out / "volumes", device)
        write_first_pairs(config, cases, volumes, out)
        write_arm(out, config.name or out.name, "generator", config.dataset)
    shutil.copyfile(Path(config.latents) / STATISTICS_FILE, out / STATISTICS_FILE)
    made = [
        replace(case, volume=volume, latents=part_file(parts, row))
        for row, (case, volume) in enumerate(zip(cases, volumes, strict=True))
    ]
    write_latent_cases(out, made)


def generate_parts(
    config: GenerateSettings, cases: Sequence[LatentCase], parts: Path, device: torch.device
) -> None:
    """Writes the generated latents that are missing in ``parts``, then removes the networks from the device,
    so that the decoder has its memory."""
    trained = load_paper_run(Path(config.denoiser), device)
    radiographs = Path(config.radiographs) if config.radiographs else None
    parts_read = ("latents", *(["image"] if trained.encoder is not None else []))
    data = StudyData(cases, parts_read, trained.scaling, radiographs=radiographs)
    bar = Bar("latents")
    missing = [row for row in range(len(cases)) if not part_file(parts, row).is_file()]
    for start in range(0, len(missing), config.batch_size):
        rows = missing[start : start + config.batch_size]
        generated = sampled(config, trained, data, rows, device)
        for row, latents in zip(rows, generated, strict=True):
            with replacing(part_file(parts, row)) as partial:
                save_array(latents.cpu().numpy().astype(np.float16), partial)
        bar(len(cases) - len(missing) + start + len(rows), len(cases))


def chosen_cases(config: GenerateSettings, cases: Sequence[LatentCase]) -> list[LatentCase]:
    """The cases for which volumes are generated, in order.

    Raises:
        InputError: no such case.
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
    config: GenerateSettings, trained: PaperRun, data: StudyData, rows: Sequence[int], device: torch.device
) -> torch.Tensor:
    """(B, C, D, H, W) unscaled latents; the noise of a case does not depend on its batch."""
    items = [data[(row, 0)] for row in rows]
    shape = tuple(items[0]["latents"].shape)
    drawn = [initial_noise(shape, config.seed, 2 * data.cases[row].row, device) for row in rows]
    radiographs = torch.stack([item["image"] for item in items]).to(device) if "image" in items[0] else None
    known = [data.cases[row].label for row in rows]
    labels = torch.tensor([NO_LABEL if label is None else label for label in known], device=device)
    largest = config.largest_latent or (1.0 if trained.scaling.clip else 5.0)
    model = trained.sampler(radiographs, labels, config.guidance_scale, config.label_scale, largest)
    scheduler = make_scheduler(config.scheduler, trained.scheduler)
    scheduler = type(scheduler).from_config(scheduler.config, timestep_spacing=config.spacing)
    noise = torch.cat([first for first, _ in drawn])
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        latents = sample_latents(model, scheduler, noise, config.steps, [generator for _, generator in drawn])
    return trained.scaling.invert(latents)


@torch.no_grad()
def decoded(
    config: GenerateSettings, cases: Sequence[LatentCase], parts: Path, folder: Path, device: torch.device
) -> list[Path]:
    """Decodes the volumes, on the grids of the real ones, and returns their files."""
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
            latents = torch.from_numpy(np.load(part_file(parts, number)).astype(np.float32))[None].to(device)
            hu = denormalise_hu(decode(latents)[0, 0], config.hu_window).cpu().numpy()
            write_volume(Volume(hu, read_volume(case.volume).affine), files[-1], np.int16)
        bar(number + 1, len(cases))
    return files


def write_first_pairs(
    config: GenerateSettings, cases: Sequence[LatentCase], volumes: Sequence[Path], out: Path
) -> None:
    """Writes pairs.csv: the first volume of each study, real and generated."""
    rows: dict[str, tuple[str, str, str]] = {}
    for unit, case, volume in zip(units(cases), cases, volumes, strict=True):
        if not config.split or case.split.lower().startswith(config.split):
            real = os.path.relpath(case.volume, out)
            rows.setdefault(unit, (unit, real, os.path.relpath(volume, out)))
    write_pairs(out, list(rows.values()))


def part_file(parts: Path, row: int) -> Path:
    """Temporary file of a case's latents, until all are finished."""
    return parts / f"{row:06d}.npy"
