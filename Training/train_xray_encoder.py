"""Stage 6: trains the X-ray encoder: the map into the atlas, how it looks there, an embedding, PE.

python Training/train_xray_encoder.py --out runs/default/xray-encoder

Where there are real films, without labels, it then goes on with them beside the virtual ones (stage 9):
python Training/train_xray_encoder.py --out runs/default/real-film-encoder \
    --config Training/configs/real-films.json --set real_films=FOLDER
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import DEFAULT_GRID, DEFAULT_HU_WINDOW
from xray2ctpa_core.data.latents import LatentDataset, read_channel_weights
from xray2ctpa_core.data.radiograph_cohort import FilmCohort
from xray2ctpa_core.data.real_radiographs import WithRealFilms, films_to_learn_from
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.simulation.build import MAP_FILE
from xray2ctpa_core.simulation.signs import SIGNS
from xray2ctpa_core.simulation.template import load_template, resampled_hu
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.stages.xray_encoder import XrayEncoderStage


@dataclass(frozen=True)
class Config(LoopConfig):
    """latents: folder of stage 4; films: of make_films.py, empty for none; channels: the encoder's widths;
    atlas_shape: voxels of the deformable atlas, empty for none (then the cohort needs no maps); map_weight,
    pe_weight, sign_weight, dense_every: as in XrayEncoderStage, with a sign_weight of 0 no maps of signs;
    start: folder of an encoder of the same configuration to go on from, empty for none; real_films: folder of
    real films, empty for none, with real_source, how their terms want them named, real_weight, as in
    XrayEncoderStage, and lung_locator, which finds their frames."""

    latents: str = "runs/default/latents/train"
    films: str = "runs/default/films"
    channels: tuple[int, ...] = (24, 48, 80, 96, 128)
    lifted_channels: int = 16
    atlas_shape: tuple[int, ...] = (100, 128, 144)
    map_weight: float = 4.0
    pe_weight: float = 0.3
    sign_weight: float = 0.3
    dense_every: int = 8
    start: str = ""
    real_films: str = ""
    real_source: str = ""
    real_weight: float = 0.3
    lung_locator: str = "runs/default/lung-locator/lung_locator"
    hu_window: tuple[float, ...] = DEFAULT_HU_WINDOW
    steps: int = 2800
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 3e-2


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/xray_encoder and, of real films that taught it, ``out``/real_films.json."""
    if config.real_films and not config.sign_weight:
        raise ConfigError("Real films teach the maps of signs: sign_weight must be above 0.")
    cases = LatentDataset(Path(config.latents), Path(config.latents), augmented=True)
    latents = cases[(0, 0)]["latents"]
    encoder = XrayEncoder(
        config.channels,
        tuple(latents.shape[1:]),
        config.lifted_channels,
        latent_channels=latents.shape[0],
        atlas_shape=config.atlas_shape or None,
        atlas_fold=DEFAULT_GRID[1] // latents.shape[2],
        sign_maps=len(SIGNS) if config.sign_weight else 0,
    )
    if config.start:
        encoder = XrayEncoder.from_pretrained(config.start)
    elif encoder.atlas is not None:
        give_atlas(encoder.atlas, config, cases)
    weights = read_channel_weights(Path(config.latents))
    stage = XrayEncoderStage(
        encoder,
        config.map_weight,
        config.pe_weight,
        weights,
        config.dense_every,
        config.sign_weight,
        config.real_weight,
    )
    data = FilmCohort(Path(config.films), cases) if config.films else cases
    if config.real_films:
        locator = LungLocator.from_pretrained(config.lung_locator, torch_dtype=torch.float32).eval()
        films, taught = films_to_learn_from(
            Path(config.real_films), locator, config.real_source, Bar("real films")
        )
        data = WithRealFilms(data, films)
        taught.save(out)
    train(stage, data, config, out, resume, Bar("X-ray encoder"))
    save_network(encoder, out / "xray_encoder")


def give_atlas(atlas: DeformableAtlas, config: Config, data: LatentDataset) -> None:
    """The atlas is the cohort's template; its mean map that of the training patients."""
    if data.maps is None:
        raise InputError(
            f"An atlas needs {MAP_FILE} of every patient; {config.latents} has patients without.",
            "Make the cohort with this version, or train with --set atlas_shape=[].",
        )
    hu = torch.from_numpy(resampled_hu(load_template(), config.atlas_shape))  # type: ignore[arg-type]
    mean = torch.from_numpy(data.maps.astype(np.float32).mean(0))
    atlas.set_atlas(normalise_hu(hu, config.hu_window), mean)


if __name__ == "__main__":
    sys.exit(
        run_stage(
            __doc__,
            Config,
            run,
            {"steps": 2, "batch_size": 2, "channels": [8, 8, 8, 8]},
        )
    )
