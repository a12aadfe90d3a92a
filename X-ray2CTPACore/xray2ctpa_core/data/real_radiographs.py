"""Real radiographs without labels for training beside virtual ones; only the frequency of signs is known."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.data.radiograph_cohort import Jitter
from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.data.virtual_radiographs import exposed_otherwise
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.radiograph import radiographs_below, read_radiograph
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.volume import FrontalFrame

#: Share of a hospital's frontal radiographs with a sign, from ChestX-ray14's counts (Wang et al., CVPR 2017)
#: in 112120 radiographs: effusion 13317; opacity: infiltration 19894, mass 5782, consolidation 4667, less
#: overlap.
SIGN_RATES = {"opacity": 0.25, "effusion": 0.12}
#: One patient in this number is held out of training, for evaluation.
_HELD_BACK = 3


def is_held_back(file: Path) -> bool:
    """Whether a radiograph is held out for evaluation. All radiographs of a patient are treated alike; the
    patient is the part of the file's name before the first "_", as in ChestX-ray14."""
    return zlib.crc32(file.stem.split("_")[0].encode()) % _HELD_BACK == 0


class RealRadiographs:
    """Frames of real radiographs, with random exposure and framing at each draw.

    Args:
        radiographs: pixels (H, W) in [0, 1] and frame of each radiograph.
    """

    def __init__(self, radiographs: Sequence[tuple[np.ndarray, FrontalFrame]]) -> None:
        self._radiographs = list(radiographs)

    def __len__(self) -> int:
        return len(self._radiographs)

    def drawn(self, rng: np.random.Generator) -> torch.Tensor:
        """A random one of the frames, (1, P, P) in [0, 1]."""
        pixels, frame = self._radiographs[int(rng.integers(len(self._radiographs)))]
        return torch.from_numpy(frame_image(exposed_otherwise(pixels, rng), Jitter.drawn(rng).frame(frame)))[
            None
        ]


def radiographs_to_learn_from(
    folder: Path, locator: LungLocator, source: str, progress: Callable[[int, int], None]
) -> tuple[RealRadiographs, TaughtRadiographs]:
    """The radiographs below ``folder`` that are not held out and that the gate accepts.

    Args:
        folder: frontal radiographs, in folders of any depth.
        locator: finds the frames, as in inference.
        source: of `TaughtRadiographs`.
        progress: called with (done, total).

    Raises:
        InputError: no such radiograph, or a file that is no readable radiograph.
    """
    taught = [file for file in radiographs_below(folder) if not is_held_back(file)]
    radiographs, names = [], {}
    for done, file in enumerate(taught, 1):
        reading = frame_radiograph(locator, read_radiograph(file))
        if reading.gate.accepted:
            radiographs.append((reading.radiograph.pixels, reading.frame))
            names[file.name] = reading.radiograph.sha256
        progress(done, len(taught))
    if not radiographs:
        raise InputError(
            f"Expected frontal chest radiographs below {folder}, found none to train on.",
            "One patient in three is held out; give more radiographs.",
        )
    return RealRadiographs(radiographs), TaughtRadiographs(source, names)


class WithRealRadiographs(Dataset[dict[str, torch.Tensor]]):
    """Items of ``virtual``, each with "real_image" (1, P, P), a random frame of ``real``."""

    def __init__(self, virtual: Dataset[dict[str, torch.Tensor]], real: RealRadiographs) -> None:
        self._virtual, self._real = virtual, real

    def __len__(self) -> int:
        return len(self._virtual)  # type: ignore[arg-type]

    def __getitem__(self, item: Any) -> dict[str, torch.Tensor]:
        return self._virtual[item] | {"real_image": self._real.drawn(np.random.default_rng([item[1], 1]))}
