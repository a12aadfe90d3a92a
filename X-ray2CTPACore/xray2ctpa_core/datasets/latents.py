"""Latents of a cohort with their radiographs, for the encoder, the classifier and the denoiser."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.utils.data import Dataset

from xray2ctpa_core.cohort.build import FILM_FILE, read_record
from xray2ctpa_core.datasets.fields import smooth_field
from xray2ctpa_core.datasets.film_appearance import furnish
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.volume import FrontalFrame

LATENTS_FILE, STATISTICS_FILE, INDEX_FILE = "latents.npy", "statistics.json", "index.json"


def read_statistics(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel, each (1, C, 1, 1, 1)."""
    values = json.loads((Path(folder) / STATISTICS_FILE).read_text(encoding="utf-8"))
    mean, std = (torch.tensor(values[key]).reshape(1, -1, 1, 1, 1) for key in ("mean", "std"))
    return mean, std


def read_channel_weights(folder: Path) -> torch.Tensor:
    """Loss weight of each latent channel, (1, C, 1, 1, 1), mean 1: how much the decoded slice depends on it.

    Standardised channels all have the variance 1, but one carries the anatomy and another faint texture.
    """
    gains = torch.tensor(json.loads((Path(folder) / STATISTICS_FILE).read_text(encoding="utf-8"))["gain"])
    return (gains / gains.mean()).reshape(1, -1, 1, 1, 1)


def read_film(folder: Path) -> tuple[np.ndarray, FrontalFrame]:
    """A virtual patient's film (H, W) float32 in [0, 1] and its frame."""
    with Image.open(folder / FILM_FILE) as image:
        pixels = np.asarray(image).astype(np.float32) / 65535
    return pixels, FrontalFrame(**read_record(folder)["frame"])


def augment_film(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes a film's look, never its geometry: local contrast, blur, shading, noise, devices, letters.

    Grey curves need no augmentation: `frame_image` keeps ranks alone.
    """
    side = pixels.shape[0]
    film: np.ndarray = pixels.astype(np.float32)
    if rng.random() < 0.5:
        film = ndimage.gaussian_filter(film, rng.uniform(0.2, 1.4))
    if rng.random() < 0.6:
        reach = side * rng.uniform(0.02, 0.15)
        film = film + rng.uniform(-0.4, 1.5) * (film - ndimage.gaussian_filter(film, reach))
    film = film + rng.exponential(0.05) * smooth_field(film.shape, 3, rng)
    film = film + rng.exponential(0.01) * rng.normal(size=film.shape)
    low, high = film.min(), film.max()
    return furnish(((film - low) / max(high - low, 1e-6)).astype(np.float32), rng)


class LatentDataset(Dataset[dict[str, torch.Tensor]]):
    """Items: {"latents": (C, D, H, W) standardised, "image": (1, P, P) in [0, 1], "label": ()}.

    Args:
        folder: what Training/encode_latents.py wrote for one cohort.
        statistics: folder whose statistics standardise (the training cohort's).
        variants: augmented films of each patient, made when first asked for and kept; the seed in the
            item's key chooses one. 0 gives the film as it is.
    """

    def __init__(self, folder: Path, statistics: Path, variants: int) -> None:
        folder = Path(folder)
        if not (folder / INDEX_FILE).is_file():
            raise InputError(
                f"Expected encoded latents in {folder}, found none.", "Run Training/encode_latents.py."
            )
        self.patients = [Path(p) for p in json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))]
        self._latents = np.load(folder / LATENTS_FILE, mmap_mode="r")
        self._mean, self._std = read_statistics(statistics)
        self._films = [read_film(patient) for patient in self.patients]
        self.labels = [float(read_record(patient)["pe"]) for patient in self.patients]
        self._variants = variants
        self._images: dict[tuple[int, int], torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        case, seed = item
        latents = torch.from_numpy(np.array(self._latents[case], dtype=np.float32))
        return {
            "latents": (latents - self._mean[0]) / self._std[0],
            "image": self._image(case, seed % self._variants if self._variants else 0).float(),
            "label": torch.tensor(self.labels[case]),
        }

    def _image(self, case: int, variant: int) -> torch.Tensor:
        """(1, P, P) float16 frame of one of the patient's films."""
        if (case, variant) not in self._images:
            pixels, frame = self._films[case]
            if self._variants:
                pixels = augment_film(pixels, np.random.default_rng([case, variant]))
            self._images[case, variant] = torch.from_numpy(frame_image(pixels, frame))[None].half()
        return self._images[case, variant]
