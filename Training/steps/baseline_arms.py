"""Arms without a denoiser, for comparison with a generator: the autoencoder's reconstruction of the real
volumes, the mean training volume, and the volume of the nearest training radiograph.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.latent_cases import (
    LatentCase,
    first_volumes,
    radiograph_files,
    read_encoder_input,
    read_latent_cases,
    read_latents,
)
from xray2ctpa_core.data.splits import TEST, TRAIN, by_split
from xray2ctpa_core.evaluation.baselines import INDEX_PIXELS, Baselines
from xray2ctpa_core.evaluation.tables.writing import Maker, write_generator_arm
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.hu import denormalise_hu
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.training.settings.tables import BaselineArmsSettings


def run(config: BaselineArmsSettings, out: Path) -> None:
    """Writes the arms reconstruction, mean-volume and nearest into ``out``, of the first volume of each test
    study."""
    names = {"reconstruction": config.reconstruction, "mean-volume": "mean-volume", "nearest": "nearest"}
    chosen = config.only or tuple(names)
    learned = [arm for arm in chosen if arm != "reconstruction"]
    parts = by_split(read_latent_cases(Path(config.latents)), (TRAIN, TEST) if learned else (TEST,))
    makers: dict[str, Maker] = {}
    if "reconstruction" in chosen:
        makers["reconstruction"] = reconstruction(config)
    if learned:
        radiographs = Path(config.radiographs)
        baselines = Baselines([StudyCase(case, radiographs) for case in parts[TRAIN]])
        makers["mean-volume"] = lambda _: baselines.mean
        makers["nearest"] = lambda case: (
            baselines.nearest(StudyCase(case, radiographs).frame_image(INDEX_PIXELS)).fresh().hu
        )
    tested = first_volumes(parts[TEST])[: config.studies or None]
    for arm in chosen:
        write_generator_arm(
            out / names[arm], names[arm], config.dataset, tested, makers[arm], Bar(names[arm])
        )


def reconstruction(config: BaselineArmsSettings) -> Maker:
    """Decodes the case's own latents."""
    codec = load_codec(config.autoencoder)

    @torch.no_grad()
    def make(case: LatentCase) -> np.ndarray:
        decoded = codec.decode(torch.from_numpy(read_latents(case))[None])
        return denormalise_hu(decoded[0, 0], config.hu_window).numpy()

    return make


class StudyCase:
    """A case for the baselines: its volume, and its radiograph from the step radiographs."""

    def __init__(self, case: LatentCase, radiographs: Path) -> None:
        self._case, self._radiographs = case, radiographs

    @cached_property
    def hu(self) -> np.ndarray:
        """(D, H, W) float32 HU."""
        return read_volume(self._case.volume).array.astype(np.float32)

    def frame_image(self, size: int) -> np.ndarray:
        """(size, size) float32: the radiograph, downsampled without aliasing."""
        (file,) = radiograph_files(self._radiographs, [self._case])
        image = read_encoder_input(file, str(file))[None]
        return functional.interpolate(image, (size, size), mode="bilinear", antialias=True)[0, 0].numpy()

    def fresh(self) -> "StudyCase":
        """The same case without cached voxels."""
        return StudyCase(self._case, self._radiographs)
