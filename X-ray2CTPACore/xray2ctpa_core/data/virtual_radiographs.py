"""Virtual patients' films: read, augmented, and kept as the frames that networks read."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from xray2ctpa_core.constants import FRAME_PIXELS
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.simulation.build import FILM_FILE, read_record
from xray2ctpa_core.simulation.fields import smooth_field
from xray2ctpa_core.simulation.radiograph_appearance import furnish
from xray2ctpa_core.volume import FrontalFrame
from xray2ctpa_core.workers import in_processes

#: (N, 1 + V, P, P) float16: of each patient the frame as it is, then V augmented ones.
FILMS_FILE = "films.npy"


def read_film(folder: Path) -> tuple[np.ndarray, FrontalFrame]:
    """A virtual patient's film (H, W) float32 in [0, 1] and its frame."""
    with Image.open(folder / FILM_FILE) as image:
        pixels = np.asarray(image).astype(np.float32) / 65535
    return pixels, FrontalFrame(**read_record(folder)["frame"])


def augment_film(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes a film's look, never its geometry: as `exposed_otherwise` does, devices, letters."""
    return furnish(exposed_otherwise(pixels, rng), rng)


def exposed_otherwise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The film (H, W) with other local contrast, blur, shading and noise, float32 from 0 to 1.

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
    return ((film - low) / max(high - low, 1e-6)).astype(np.float32)


def write_frames(
    folders: Sequence[Path],
    variants: int,
    out: Path,
    workers: int,
    progress: Callable[[int, int], None],
) -> None:
    """Writes FILMS_FILE into ``out``.

    Args:
        folders: the patients', in order.
        variants: augmented films of each, fixed by the patient's place and the variant's number.
        out: existing folder.
        workers: processes.
        progress: called with (done, of) after each patient.
    """
    shape = (len(folders), 1 + variants, FRAME_PIXELS, FRAME_PIXELS)
    films = np.lib.format.open_memmap(out / FILMS_FILE, "w+", np.float16, shape)
    frames = functools.partial(_frames, variants=variants)
    patients = list(enumerate(folders))
    for done, ((case, _), made) in enumerate(in_processes(frames, patients, workers), 1):
        films[case] = made
        progress(done, len(folders))
    films.flush()


def _frames(patient: tuple[int, Path], variants: int) -> np.ndarray:
    """(1 + variants, P, P) float16 of one patient."""
    case, folder = patient
    pixels, frame = read_film(folder)
    augmented = (augment_film(pixels, np.random.default_rng([case, v])) for v in range(variants))
    return np.stack([frame_image(film, frame) for film in (pixels, *augmented)]).astype(np.float16)
