"""Virtual patients with a radiograph but no volume, to train the encoder on many radiographs.

Every augmented frame is also shifted and scaled on the radiograph, to imitate the lung locator's errors, and
its map is transformed with it.

A volume costs more time and memory than the radiographs of several patients, and an encoder trained on only a
thousand radiographs memorises them before it has learned positions.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.constants import DEFAULT_GRID, FRAME_PIXELS, MAP_GRID, SHADOW_GRID
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.data.virtual_radiographs import augment_radiograph
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.simulation.patient import radiograph_patient
from xray2ctpa_core.simulation.sign_map import sign_masks, sign_shadows
from xray2ctpa_core.simulation.signs import PREVALENCE, SIGNS, sign_probability
from xray2ctpa_core.simulation.template import load_template
from xray2ctpa_core.volume import FrontalFrame
from xray2ctpa_core.workers import in_processes

#: (N, V, P, P) float16: V augmented frames of each patient.
RADIOGRAPHS_FILE = "radiographs.npy"
#: (N, 3, *MAP_GRID) float16, the map of the patient's frame without jitter; (N, V, 3) float32, the `Jitter`
#: of each frame; (N, 2 + S) float32, 1 for a finished patient, then presence of PE and of each sign.
MAPS_FILE, JITTERS_FILE, LABELS_FILE = "maps.npy", "jitters.npy", "labels.npy"
#: (N, V, *SHADOW_GRID) uint8, bits of the signs in each cell of a frame (simulation.sign_map.sign_shadows).
SHADOWS_FILE = "shadows.npy"
#: Written when all patients are finished: {"seed": ..., "patients": ..., "variants": ..., "shadows": ...}.
DESCRIPTION_FILE = "radiographs.json"
#: Largest shift of a frame over its side; smallest and largest scale of a frame.
_SHIFT, _SCALES = 0.03, (0.94, 1.07)
#: Points by which a map is extended at each end, enough for the largest shift and scale.
_ADDED = 3


class Jitter(NamedTuple):
    """Change of a frame: its centre moves by shares of its side, then its side is multiplied by ``scale``."""

    right: float
    down: float
    scale: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Jitter":
        """A random one."""
        return cls(rng.uniform(-_SHIFT, _SHIFT), rng.uniform(-_SHIFT, _SHIFT), rng.uniform(*_SCALES))

    def frame(self, frame: FrontalFrame) -> FrontalFrame:
        """The frame, shifted and scaled."""
        side = frame.side * self.scale
        edge = (frame.side - side) / 2
        return FrontalFrame(
            top=frame.top + edge + self.down * frame.side,
            left=frame.left + edge + self.right * frame.side,
            side=side,
        )

    def map(self, template_map: torch.Tensor) -> torch.Tensor:
        """The map (3, *MAP_GRID) of the frame -> that of the shifted and scaled frame.

        Depth scales with the side, as a volume's does; beyond its edges the map is extrapolated linearly.
        """
        padded = _extrapolated(_extrapolated(_extrapolated(template_map, 1), 2), 3)
        shifts = (-self.down, 0.0, self.right)
        axes = []
        for padded_points, points, voxels, shift in zip(
            padded.shape[1:], MAP_GRID, DEFAULT_GRID, shifts, strict=True
        ):
            # The map's corners are the centres of the volume's corner voxels, half a voxel inside the frame.
            where = torch.linspace(-1, 1, points) * self.scale + 2 * shift * voxels / (voxels - 1)
            axes.append(where * (points - 1) / (padded_points - 1))
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        return functional.grid_sample(
            padded[None], torch.stack([x, y, z], -1)[None], padding_mode="border", align_corners=True
        )[0]


def _extrapolated(values: torch.Tensor, axis: int) -> torch.Tensor:
    """``values`` extended linearly by _ADDED points at each end of an axis."""
    first, second = values.narrow(axis, 0, 1), values.narrow(axis, 1, 1)
    last, before = values.narrow(axis, -1, 1), values.narrow(axis, -2, 1)
    beyond = range(1, _ADDED + 1)
    start = [first + k * (first - second) for k in reversed(beyond)]
    return torch.cat([*start, values, *(last + k * (last - before) for k in beyond)], axis)


def write_radiograph_cohort(
    out: Path, patients: int, variants: int, seed: int, workers: int, progress: Callable[[int, int], None]
) -> None:
    """Writes the augmented frames, maps and labels of a cohort, continuing one that is begun in ``out``.

    Args:
        out: folder; a radiograph cohort of other size or seed there is refused.
        patients, variants: number of patients, and of augmented frames of each.
        seed: of the cohort; seed and patient's number determine everything, independently of the workers.
        workers: processes.
        progress: called with (done, total).

    Raises:
        InputError: the folder holds another radiograph cohort.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = {"seed": seed, "patients": patients, "variants": variants, "shadows": SHADOW_GRID}
    description = json.dumps(settings) + "\n"
    begun = out / f".{DESCRIPTION_FILE}"
    if begun.is_file() and begun.read_text(encoding="utf-8") != description:
        raise InputError(
            f"Expected {out} to hold the radiographs {description.strip()}, "
            f"it holds {begun.read_text().strip()}.",
            "Choose another --out or the same settings.",
        )
    mode = "r+" if begun.is_file() else "w+"
    opened = functools.partial(np.lib.format.open_memmap, mode=mode)
    radiographs = opened(
        out / RADIOGRAPHS_FILE, dtype=np.float16, shape=(patients, variants, FRAME_PIXELS, FRAME_PIXELS)
    )
    maps = opened(out / MAPS_FILE, dtype=np.float16, shape=(patients, 3, *MAP_GRID))
    jitters = opened(out / JITTERS_FILE, dtype=np.float32, shape=(patients, variants, 3))
    shadows = opened(out / SHADOWS_FILE, dtype=np.uint8, shape=(patients, variants, *SHADOW_GRID))
    labels = opened(out / LABELS_FILE, dtype=np.float32, shape=(patients, 2 + len(SIGNS)))
    write_text_atomically(begun, description)
    missing = np.flatnonzero(labels[:, 0] == 0)
    make = functools.partial(_make, seed=seed, variants=variants)
    for done, (number, made) in enumerate(
        in_processes(make, missing.tolist(), workers), patients - len(missing) + 1
    ):
        radiographs[number], maps[number], jitters[number], shadows[number], row = made
        labels[number] = row  # last: it marks the patient as finished
        progress(done, patients)
    for array in (radiographs, maps, jitters, shadows, labels):
        array.flush()
    write_text_atomically(out / DESCRIPTION_FILE, description)


def _make(number: int, seed: int, variants: int) -> tuple[np.ndarray, ...]:
    """Frames (V, P, P) float16, map (3, *MAP_GRID) float16, jitters (V, 3), shadows (V, *SHADOW_GRID), row of
    labels of one patient."""
    patient = radiograph_patient(load_template(), seed, number)
    frames, jitters, shadows = [], [], []
    template_map = torch.from_numpy(patient.template_map.astype(np.float32))
    for variant in range(variants):
        rng = np.random.default_rng([seed, number, variant])
        jitters.append(Jitter.drawn(rng))
        radiograph = augment_radiograph(patient.radiograph.pixels, rng)
        frames.append(frame_image(radiograph, jitters[-1].frame(patient.frame)))
        shadows.append(sign_shadows(patient.template_bits, jitters[-1].map(template_map)))
    record = patient.record
    row = [1.0, float(record["pe"]), *(float(record["signs"][sign.name]) for sign in SIGNS)]
    return (
        np.stack(frames).astype(np.float16),
        patient.template_map,
        np.array(jitters, np.float32),
        np.stack(shadows),
        np.array(row, np.float32),
    )


class RadiographCohort(Dataset[dict[str, torch.Tensor]]):
    """Items: "image" (1, P, P) in [0, 1], "template_map" (3, *MAP_GRID), "signs" (S,), "shadows"
    (S, *SHADOW_GRID), 1 where a sign is visible, and "label" (), the probability of PE given the signs, which
    are all that a radiograph shows of PE (simulation.signs); further the item of one of ``latents``'
    patients, with "latent_" before each key.

    Args:
        folder: what `write_radiograph_cohort` wrote.
        latents: patients with volumes, one for each radiograph.
    """

    def __init__(self, folder: Path, latents: StudyData) -> None:
        if not ((folder / DESCRIPTION_FILE).is_file() and (folder / SHADOWS_FILE).is_file()):
            raise InputError(
                f"Expected a radiograph cohort with {SHADOWS_FILE} in {folder}, found none.",
                "Run the step of the kind radiograph-cohort.",
            )
        self._radiographs = np.load(folder / RADIOGRAPHS_FILE, mmap_mode="r")
        self._maps = np.load(folder / MAPS_FILE, mmap_mode="r")
        self._jitters = np.load(folder / JITTERS_FILE)
        self._shadows = np.load(folder / SHADOWS_FILE, mmap_mode="r")
        self._signs = np.load(folder / LABELS_FILE)[:, 2:]
        shown = ({sign.name: bool(v) for sign, v in zip(SIGNS, row, strict=True)} for row in self._signs)
        self._sign_probabilities = [sign_probability(signs, PREVALENCE) for signs in shown]
        self._latents = latents

    def __len__(self) -> int:
        return len(self._radiographs)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        case, seed = item
        variant = seed % self._radiographs.shape[1]
        template_map = torch.from_numpy(np.array(self._maps[case], dtype=np.float32))
        # Drawn at random: a batch uses only its first items' patients, whose seeds lie a fixed step apart.
        rng = np.random.default_rng(seed)
        beside = self._latents[int(rng.integers(len(self._latents))), int(rng.integers(1 << 31))]
        return {
            "image": torch.from_numpy(np.array(self._radiographs[case, variant], dtype=np.float32))[None],
            "template_map": Jitter(*self._jitters[case, variant].tolist()).map(template_map),
            "label": torch.tensor(self._sign_probabilities[case]),
            "signs": torch.from_numpy(self._signs[case]),
            "shadows": torch.from_numpy(sign_masks(self._shadows[case, variant])).float(),
            **{f"latent_{name}": value for name, value in beside.items()},
        }
