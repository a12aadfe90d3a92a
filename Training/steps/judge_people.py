"""Judges a bank of atlases on people who taught it nothing.

Each person's CT makes a radiograph; its frame is given. Compared with the CT: the mean volume of drawn
patients, the expected volume, one sample and the mean of all. judged.json holds every number, strangers.png
the axial, coronal and sagittal slices of CT, one sample and another.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image
from steps.people import DEVICE, batches, teaching

from xray2ctpa_core.config import write_json
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW, DEPTH_FRACTION
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.diffusion.bent import bent_map
from xray2ctpa_core.diffusion.residual import to_latents
from xray2ctpa_core.diffusion.sampling import initial_noise, sample_latents
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.metrics.dice import dice
from xray2ctpa_core.metrics.image import psnr, ssim
from xray2ctpa_core.models.codecs.fold_codec import unfolded
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.preprocessing.lungs import threshold_lungs
from xray2ctpa_core.simulation.people.drawing import Shape, people_themselves
from xray2ctpa_core.simulation.people.person import people_in
from xray2ctpa_core.simulation.people.population import load_population
from xray2ctpa_core.training.settings.people import JudgePeopleSettings
from xray2ctpa_core.volume import Volume, axial_affine


def run(config: JudgePeopleSettings, out: Path) -> None:
    """Writes ``out``/judged.json and ``out``/strangers.png.

    Raises:
        ConfigError: nobody is in ``without``.
    """
    if not config.without:
        raise ConfigError("Expected people who taught nothing in without, got none.", "Set run.without.")
    encoder = BankEncoder.from_pretrained(config.encoder).to(DEVICE).eval()
    denoiser = BankDenoiser.from_pretrained(Path(config.denoiser) / "denoiser").to(DEVICE).eval()
    shape = Shape(config.grid, config.pixels, config.finer)
    drawn = DrawnPatients(teaching(config), shape)
    mean = sum(batch["volume"].float().sum(0) for batch in batches(drawn, config.mean_of, 8, 800_000_000))
    mean = (mean / config.mean_of)[0]  # type: ignore[operator, index]
    people = [person for person in people_in(Path(config.people)) if person.name in config.without]
    population = load_population(people, DEVICE, config.people_mm)
    strangers = people_themselves(population, shape, torch.Generator(DEVICE).manual_seed(7))
    rows, shown = [], []
    for number, person in enumerate(people):
        true, side = strangers.volume[number, 0], float(strangers.side_mm[number])
        image = strangers.image[number : number + 1]
        samples, expected = generated(encoder, denoiser, image, config)
        made = {"mean volume": mean, "expected": expected, "mean of samples": samples.mean(0)}
        row = {name: scores(volume, true, side) for name, volume in made.items()}
        each = [scores(sample, true, side) for sample in samples]
        row["one sample"] = {key: float(np.mean([s[key] for s in each])) for key in each[0]}
        rows.append({"person": person.name, **row})
        shown.append(np.concatenate([*slices(true), *slices(samples[0]), *slices(samples[-1])], 1))
    kinds = [kind for kind in rows[0] if kind != "person"]
    summary = {
        kind: {key: round(float(np.mean([r[kind][key] for r in rows])), 3) for key in rows[0][kind]}  # type: ignore[index]
        for kind in kinds
    }
    Image.fromarray(np.concatenate(shown)).save(out / "strangers.png")
    print(json.dumps(summary, indent=1))
    write_json(out / "judged.json", {"mean": summary, "people": rows}, indent=1)


@torch.no_grad()
def generated(
    encoder: BankEncoder, denoiser: BankDenoiser, image: torch.Tensor, config: JudgePeopleSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(K, D, H, W) samples and the expected volume (D, H, W), in [-1, 1], of a radiograph's frame."""
    conditioning = encoder.condition(image)
    scheduler = DPMSolverMultistepScheduler.from_pretrained(Path(config.denoiser) / "scheduler")
    fold = tuple(encoder.config["fold"])
    volumes = []
    for sample in range(config.samples):
        noise, generator = initial_noise(denoiser.diffused_shape, 0, sample, image.device)
        diffused = sample_latents(
            lambda x, t: denoiser(x, t, conditioning), scheduler, noise, config.inference_steps, generator
        )
        drawn = bent_map(denoiser, conditioning, diffused, config.map_spread)
        latents = to_latents(denoiser, conditioning, diffused, drawn)
        volumes.append(unfolded(latents, fold)[0, 0])  # type: ignore[arg-type]
    return torch.stack(volumes), encoder.expected_volume(conditioning.features)[0, 0]


def scores(volume: torch.Tensor, true: torch.Tensor, side_mm: float) -> dict[str, float]:
    """PSNR in dB, SSIM 3D and Dice of the lungs of a volume (D, H, W) in [-1, 1]."""
    one, other = (hu_of(v) for v in (volume, true))
    depth, height, width = one.shape
    affine = axial_affine((depth, height, width), (side_mm, DEPTH_FRACTION * side_mm, side_mm))
    lungs = [threshold_lungs(Volume(hu, affine)) for hu in (one, other)]
    return {
        "psnr": psnr(one, other, DEFAULT_HU_WINDOW),
        "ssim": ssim(one, other, DEFAULT_HU_WINDOW),
        "lung dice": dice(*lungs),
    }


def hu_of(volume: torch.Tensor) -> np.ndarray:
    """(D, H, W) float32 HU."""
    lower, upper = DEFAULT_HU_WINDOW
    return ((volume.float().cpu().numpy() + 1) / 2 * (upper - lower) + lower).astype(np.float32)


def slices(volume: torch.Tensor) -> Iterator[np.ndarray]:
    """Axial, coronal and sagittal through the middle, head up, (W, W) uint8 each."""
    grey = ((volume.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    depth, height, width = grey.shape
    for plane in (grey[depth // 2], grey[::-1, height // 2], grey[::-1, :, width // 2]):
        yield np.asarray(Image.fromarray(plane).resize((width, width)))
