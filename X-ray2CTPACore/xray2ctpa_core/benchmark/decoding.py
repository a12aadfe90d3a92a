"""From latents to a volume: the release's way, ours, and ours with a tiny decoder."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from xray2ctpa_core.benchmark.floor import counted_flops
from xray2ctpa_core.benchmark.sides import REFERENCE, Scale
from xray2ctpa_core.benchmark.timing import interleaved, spread
from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.models.codecs.slices import from_autoencoder, slices_at_once
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.models.hu import denormalise_hu
from xray2ctpa_core.models.memory import in_batches
from xray2ctpa_core.pipelines.device import DTYPES

Call = Callable[[], torch.Tensor]


def papers_decoder(scale: Scale, seed: int) -> AutoencoderKL:
    """The papers' autoencoder with random weights, on which its cost does not depend."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        levels = len(scale.decoder_channels)
        autoencoder = AutoencoderKL(
            block_out_channels=scale.decoder_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=2,
            norm_num_groups=min(32, scale.decoder_channels[0]),
        )
    return autoencoder.eval()


def reference_decode(autoencoder: AutoencoderKL, slices: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) -> (N, H, W) HU, one slice after another, rounded to 8-bit grey, as the release does."""
    volume = []
    with torch.no_grad():
        for one in slices:
            image = from_autoencoder(autoencoder.decode(one[None]).sample)[0, 0]
            grey = ((image + 1) / 2 * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
            volume.append(torch.from_numpy(grey.astype(np.float32)) / 255 * 2 - 1)
    return denormalise_hu(torch.stack(volume), PAPER_HU_WINDOW)


def our_decode(decoder: AutoencoderKL | TinyDecoder, slices: torch.Tensor, factor: int) -> torch.Tensor:
    """(N, C, h, w) -> (N, H, W) HU, many slices at once, in floating point, as the pipeline does; H and W are
    ``factor`` times h and w."""
    height, width = (factor * n for n in slices.shape[2:])
    with torch.inference_mode():
        images = in_batches(
            lambda part: from_autoencoder(decoder.decode(part).sample.float()),
            slices.to(decoder.dtype),
            slices_at_once(height, width),
        )
        return denormalise_hu(images[:, 0], PAPER_HU_WINDOW).cpu()


def tiny_decoder(scale: Scale, seed: int) -> TinyDecoder:
    """The tiny decoder for the papers' latents with random weights, on which its cost does not depend."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyDecoder(scale.latents[0], scale.factor, scale.tiny_width, scale.tiny_blocks).eval()


def structure(decoder: TinyDecoder, scale: Scale) -> dict[str, Any]:
    """The tiny decoder's structure, JSON-ready, with its number of parameters and the operations of one
    slice."""
    channels, _, height, width = scale.latents
    slices = torch.zeros(1, channels, height, width)
    return {
        "latent_channels": channels,
        "factor": scale.factor,
        "width": scale.tiny_width,
        "blocks": list(scale.tiny_blocks),
        "parameters": sum(p.numel() for p in decoder.parameters()),
        "slice_flops": counted_flops(lambda: decoder(slices)),
    }


def measure_decoding(
    ours: dict[str, str],
    repeats: int,
    count: int,
    seed: int,
    device: torch.device,
    scale: Scale,
    progress: Callable[[str, int, int], None],
) -> dict[str, dict[str, Any]]:
    """Measures the seconds that each side takes to decode a volume.

    Args:
        ours: name of each of our sides -> its precision.
        repeats: rounds, at least 1.
        count: slices that the autoencoder decodes in a round; its time for the others is extrapolated.
        seed: of weights and latents.
        device: where.
        scale: of latents and decoders.
        progress: called with (what, done, of).

    Returns:
        For each side ``decode_s``, extrapolated, and ``decode_difference_hu``, the greatest difference from
        the reference; for ours also ``tiny_decode_s``, of the tiny decoder on the whole volume, as Spread.
    """
    channels, depth, height, width = scale.latents
    latents = torch.randn(depth, channels, height, width, generator=torch.Generator().manual_seed(seed))
    latents = latents.to(device)
    slices = latents[:count]
    decoder = papers_decoder(scale, seed).to(device)
    calls: dict[str, Call] = {REFERENCE: lambda: reference_decode(decoder, slices)}
    tiny: dict[str, Call] = {}
    for name, precision in ours.items():
        own = decoder
        if precision != "fp32":
            own = papers_decoder(scale, seed).to(device, DTYPES[precision])
        small = tiny_decoder(scale, seed).to(device, DTYPES[precision])
        calls[name] = lambda own=own: our_decode(own, slices, scale.factor)  # type: ignore[misc]
        tiny[name] = lambda small=small: our_decode(small, latents, scale.factor)  # type: ignore[misc]
    outputs = {name: call() for name, call in calls.items()}
    seconds = interleaved(calls, repeats, device, lambda done, of: progress("decoding", done, of))
    whole = interleaved(tiny, repeats, device, lambda done, of: progress("tiny decoder", done, of))
    found: dict[str, dict[str, Any]] = {
        name: {
            "decode_s": spread(seconds[name]).median * depth / len(slices),
            "decode_difference_hu": float((outputs[name] - outputs[REFERENCE]).abs().max()),
        }
        for name in calls
    }
    for name in tiny:
        found[name]["tiny_decode_s"] = asdict(spread(whole[name]))
    return found
