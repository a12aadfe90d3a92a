"""A tiny decoder for an autoencoder's latents: generated volumes are decoded at a fraction of the cost.

python Training/train_tiny_decoder.py --out runs/mine/tiny-decoder \\
    --config Training/configs/paper-tiny-decoder.json --set latents=runs/mine/latents \\
    autoencoder=/models/sd-vae-ft-mse distance_weights=/models/radimagenet

generate_latents.py decodes with it: --set decoder=runs/mine/tiny-decoder/decoder
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from diffusers import AutoencoderKL

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latent_slices import LatentSlices
from xray2ctpa_core.data.latents import read_statistics
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.stages.tiny_decoder import TinyDecoderConfig, TinyDecoderStage


@dataclass(frozen=True)
class Config(LoopConfig, TinyDecoderConfig):
    """latents: folder of encode_latents.py, whose index lists the volumes; autoencoder: that encoded them;
    hu_window: that they were clipped to; slices: of a volume at once; batch_size: volumes; folds, fold,
    fold_seed: which cases teach, as in train_paper_denoiser.py; distance, distance_weights:
    losses.perceptual.perceptual_distance; the rest as in the two classes."""

    latents: str = "runs/paper/latents"
    autoencoder: str = "runs/paper/autoencoder/autoencoder"
    hu_window: tuple[float, ...] = PAPER_HU_WINDOW
    slices: int = 8
    folds: int = 0
    fold: int = 0
    fold_seed: int = 1
    distance: str = "efficientnet"
    distance_weights: str = ""
    batch_size: int = 2


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/decoder."""
    latents = Path(config.latents)
    cases = training_cases(read_latent_cases(latents), config.folds, config.fold, config.fold_seed)
    data = LatentSlices(latents, cases, config.hu_window, config.slices)
    distance = None
    if config.perceptual_weight > 0:
        weights = Path(config.distance_weights) if config.distance_weights else None
        distance = perceptual_distance(config.distance, weights)
    decoder = build_decoder(config, data)
    autoencoder = AutoencoderKL.from_pretrained(config.autoencoder)
    stage = TinyDecoderStage(decoder, autoencoder, config, distance)
    train(stage, data, config, out, resume, Bar("tiny decoder"))
    save_network(decoder, out / "decoder")


def build_decoder(config: Config, data: LatentSlices) -> TinyDecoder:
    """For latents and slices as the first of ``data``; raises InputError where no factor leads from one
    to the other."""
    first = data[(0, 0)]
    channels, *small = first["latents"].shape[1:]
    large = list(first["slice"].shape[2:])
    factor = large[0] // small[0]
    if large != [factor * size for size in small]:
        raise InputError(
            f"Expected slices a whole number of times the size of their latents, got {large} and {small}."
        )
    mean, std = (tuple(v.flatten().tolist()) for v in read_statistics(Path(config.latents)))
    return TinyDecoder(channels, factor, config.width, config.blocks, mean, std)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"steps": 2, "batch_size": 1, "slices": 2}))
