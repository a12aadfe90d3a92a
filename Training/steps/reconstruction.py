"""Generates the test studies' volumes by several systems and writes a table of their quality."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from steps.vqgan import CODEBOOK_FILE

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import append_json_line, read_json_lines, write_text_atomically
from xray2ctpa_core.data.index import INDEX_FILE, read_index, write_index
from xray2ctpa_core.data.latent_cases import LatentCase, read_latent_cases
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.data.splits import TRAIN, canonical_split
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.diffusion.latent_scaling import load_scaling
from xray2ctpa_core.diffusion.sampling import initial_noise, sample_latents
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.evaluation.reconstruction import image_scores, reconstruction_table
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.codecs.codec import Codec, IdentityCodec
from xray2ctpa_core.models.hu import denormalise_hu, normalise_hu
from xray2ctpa_core.pipelines.bundle import BUNDLE_FILE
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.training.settings.reconstruction import ReconstructionSettings
from xray2ctpa_core.volume import FrontalFrame, Volume

ROWS_FILE, TABLE_FILE, VOLUMES_FOLDER = "rows.jsonl", "table.md", "volumes"
#: Prefix of the names of codecs, which are given the volume itself.
CODEC = "codec:"
MEAN_VOLUME, NEAREST = "mean volume of training", "nearest radiograph of training"
#: (study's id, volume (1, 1, D, H, W), image (1, 1, P, P)) in the networks' ranges -> (1, 1, D, H, W).
System = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]


def run(config: ReconstructionSettings, out: Path) -> None:
    """Writes ``out``/rows.jsonl, a line for each system and study, skipping existing ones, volumes where they
    are kept; table.md last."""
    cases = read_latent_cases(Path(config.latents))
    wanted = canonical_split(config.split)
    tested = [case for case in cases if not wanted or canonical_split(case.split) == wanted]
    if not tested:
        raise InputError(
            f"Expected studies of the split {config.split} in {config.latents}, got none.",
            "Name the splits in the table of your studies, of two patients or more.",
        )
    radiographs = Path(config.radiographs) if config.radiographs else None
    data = StudyData(
        tested[: config.patients or None],
        ("volume", "image"),
        window=config.hu_window,
        radiographs=radiographs,
    )
    weights = Path(config.distance_weights) if config.distance_weights else None
    distance = perceptual_distance(config.distance, weights)
    rows = read_json_lines(out / ROWS_FILE)
    done = {(row["system"], row["study"]) for row in rows}
    for name, make in systems(config, cases):
        if all((name, case.id) in done for case in data.cases):
            continue
        system, bar = make(), Bar(name)
        for place, case in enumerate(data.cases):
            if (name, case.id) not in done:
                item = data[(place, 0)]
                began = time.monotonic()
                with torch.no_grad():
                    volume = system(case.id, item["volume"][None], item["image"][None])
                row = {"system": name, "study": case.id, "patient": case.patient}
                row["seconds"] = time.monotonic() - began
                hu, reference = (
                    denormalise_hu(v.clamp(-1, 1), config.hu_window)[0, 0].numpy()
                    for v in (volume, item["volume"][None])
                )
                if config.keep_volumes:
                    keep(out / VOLUMES_FOLDER / name, case, hu)
                rows.append(row | image_scores(hu, reference, config.hu_window, distance))
                append_json_line(out / ROWS_FILE, rows[-1])
            bar(place + 1, len(data))
        if config.keep_volumes:
            list_volumes(out / VOLUMES_FOLDER / name, data.cases)
    write_text_atomically(out / TABLE_FILE, reconstruction_table(rows, codebooks(config)))


def keep(folder: Path, case: LatentCase, hu: np.ndarray) -> None:
    """Writes a generated volume (D, H, W) on the grid of the case's own."""
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(hu, read_volume(case.volume).affine), folder / volume_name(case), np.int16)


def volume_name(case: LatentCase) -> str:
    """Of the file of a generated volume; several of one study differ by their row."""
    return f"{case.id}-{case.row}.nii.gz"


def list_volumes(folder: Path, cases: Sequence[LatentCase]) -> None:
    """Writes the index of the volumes that `keep` wrote."""
    files = [(case, folder / volume_name(case)) for case in cases]
    write_index(folder / INDEX_FILE, [Study(case.id, case.patient, file) for case, file in files])


def codebooks(config: ReconstructionSettings) -> dict[str, float]:
    """Share of used codes of each codec that the step vqgan measured, over its training volumes."""
    found = {}
    for entry in config.systems:
        name, _, folder = entry.partition("=")
        measured = Path(folder).parent / CODEBOOK_FILE
        if name.startswith(CODEC) and measured.is_file():
            found[name] = float(json.loads(measured.read_text(encoding="utf-8"))["codes_used"])
    return found


def systems(
    config: ReconstructionSettings, cases: Sequence[LatentCase]
) -> list[tuple[str, Callable[[], System]]]:
    """Name of each system and function that loads it; those that learn nothing come first."""
    taught = [case for case in cases if canonical_split(case.split) == TRAIN]
    found: list[tuple[str, Callable[[], System]]] = []
    if taught and canonical_split(config.split) != TRAIN:
        found.append((MEAN_VOLUME, lambda: mean_volume(taught, config.hu_window)))
        found.append((NEAREST, lambda: nearest_radiograph(taught, config)))
    for entry in config.systems:
        name, _, folder = entry.partition("=")
        if not folder:
            raise ConfigError(f"Expected systems as NAME=FOLDER, got {entry!r}.")
        if name.startswith(CODEC):
            found.append((name, lambda folder=folder: reconstruction(load_codec(folder))))  # type: ignore[misc]
        elif (Path(folder) / BUNDLE_FILE).is_file():
            found.append((name, lambda folder=folder: bundled(Path(folder), config)))  # type: ignore[misc]
        else:
            found.append((name, lambda folder=folder: generator(Path(folder), config)))  # type: ignore[misc]
    return found


def mean_volume(cases: Sequence[LatentCase], window: tuple[float, float]) -> System:
    """The mean training volume, the same for every radiograph."""
    data = StudyData(cases, ("volume",), window=window)
    mean = torch.stack([data[(place, 0)]["volume"] for place in range(len(data))]).mean(0, keepdim=True)
    return lambda study, volume, image: mean  # noqa: ARG005


def nearest_radiograph(cases: Sequence[LatentCase], config: ReconstructionSettings) -> System:
    """The volume of the taught study whose radiograph correlates best."""
    radiographs = Path(config.radiographs) if config.radiographs else None
    data = StudyData(cases, ("volume", "image"), window=config.hu_window, radiographs=radiographs)
    images = torch.stack([_standardised(data[(place, 0)]["image"]) for place in range(len(data))])

    def nearest(study: str, volume: torch.Tensor, image: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        place = int((images @ _standardised(image)).argmax())
        return data[(place, 0)]["volume"][None]

    return nearest


def _standardised(image: torch.Tensor) -> torch.Tensor:
    """(..., P, P) -> (P * P,) of mean 0 and length 1."""
    flat = image.flatten() - image.mean()
    return flat / flat.norm()


def bundled(folder: Path, config: ReconstructionSettings) -> System:
    """A bundle, as `generate` runs it: it reads the radiograph's own file, whose frame is the whole of it."""
    pipeline = XRay2CTPAPipeline.from_pretrained(folder)
    files = (
        {study.id: study.radiograph for study in read_index(Path(config.studies))} if config.studies else {}
    )

    def generated(study: str, volume: torch.Tensor, image: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        file = files.get(study)
        if file is None:
            raise ConfigError(
                f"The bundle {folder} needs the radiograph of {study}, got none.",
                "Set studies, the index that names it.",
            )
        radiograph = read_radiograph(file)
        frame = FrontalFrame(0.0, 0.0, float(max(radiograph.pixels.shape)))
        framed = pipeline.framing(radiograph, frame).image[None, None]
        samples = pipeline.decode(pipeline.sample_latents(framed, config.samples))
        return normalise_hu(torch.from_numpy(samples.mean(0)), config.hu_window)[None, None]

    return generated


def reconstruction(codec: Codec) -> System:
    """What the codec makes of the volume itself: a ceiling of the systems on its latents."""
    return lambda study, volume, image: codec.decode(codec.encode(volume))  # noqa: ARG005


def generator(folder: Path, config: ReconstructionSettings) -> System:
    """A run of regressor or prior-denoiser: encoder, denoiser, scheduler, and codec where it has one."""
    encoder, denoiser = load_part(folder / "encoder"), load_part(folder / "denoiser")
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    latent = (folder / "codec").is_dir()
    codec: Codec = load_codec(folder / "codec") if latent else IdentityCodec()
    channels = denoiser.config["latent_channels"]
    steps = config.sampling_steps if latent else 1

    def generated(study: str, volume: torch.Tensor, image: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        conditioning = encoder.condition(image)
        grid = tuple(size // f for size, f in zip(volume.shape[2:], codec.factors, strict=True))
        made = []
        for number in range(config.samples if latent else 1):
            noise, random = initial_noise((channels, *grid), 0, number, torch.device("cpu"))
            latents = sample_latents(
                lambda sample, timestep: denoiser(sample, timestep, conditioning),
                scheduler,
                noise,
                steps,
                [random],
            )
            if latent:
                latents = load_scaling(folder / "denoiser").invert(latents)
            made.append(codec.decode(latents))
        return torch.cat(made).mean(0, keepdim=True)

    return generated
