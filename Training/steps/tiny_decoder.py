"""Trains a tiny decoder for an autoencoder's latents, which decodes at a fraction of the cost."""

from pathlib import Path

from diffusers import AutoencoderKL

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latent_slices import LatentSlices
from xray2ctpa_core.data.latents import read_statistics
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.codecs import TinyDecoderSettings
from xray2ctpa_core.training.stages.tiny_decoder import TinyDecoderStage


def run(config: TinyDecoderSettings, out: Path) -> None:
    """Trains and saves ``out``/decoder."""
    latents = Path(config.latents)
    cases = training_cases(read_latent_cases(latents), config.folds, config.fold, config.fold_seed)
    data = LatentSlices(cases, config.hu_window, config.slices)
    distance = None
    if config.perceptual_weight > 0:
        weights = Path(config.distance_weights) if config.distance_weights else None
        distance = perceptual_distance(config.distance, weights)
    decoder = build_decoder(config, data)
    autoencoder = AutoencoderKL.from_pretrained(config.autoencoder, use_safetensors=True)
    stage = TinyDecoderStage(decoder, autoencoder, config, distance)
    train(stage, data, config, out, Bar("tiny decoder"))
    save_network(decoder, out / "decoder")


def build_decoder(config: TinyDecoderSettings, data: LatentSlices) -> TinyDecoder:
    """A decoder for the sizes of latents and slices in ``data``; raises InputError where their ratio is not a
    whole number."""
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
