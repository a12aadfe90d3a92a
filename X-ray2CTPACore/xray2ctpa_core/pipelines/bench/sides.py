"""The two sides of the comparison: the papers' network in the release's way and in ours, same weights."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler

from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.networks.hu import denormalise_hu
from xray2ctpa_core.networks.paper_denoiser import PaperDenoiser
from xray2ctpa_core.networks.released_reference import random_weights, released_unet
from xray2ctpa_core.networks.slices import from_autoencoder
from xray2ctpa_core.pipelines.device import DTYPES
from xray2ctpa_core.pipelines.loading import load_denoiser

#: (C, D, H, W) of the papers' latents, and the length of the X-ray's embedding.
LATENTS, EMBEDDING = (4, 64, 32, 32), 512
#: Levels of the papers' autoencoder (sd-vae-ft-mse, KL-f8): 32 x 32 latents make 256 x 256 pixels.
DECODER_CHANNELS = (128, 256, 512, 512)
REFERENCE = "reference fp32"

Given = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Scale:
    """How large everything is; the defaults are the papers'. Smaller ones try the code.

    Attributes:
        latents: (C, D, H, W), H and W multiples of 8.
        decoder_channels: of the autoencoder's levels.
        classifier_blocks: layers of the latent classifier's dense blocks.
        steps: passes of the reference, DDPM.
        our_steps: passes of ours, DPM-Solver++.
    """

    latents: tuple[int, int, int, int] = LATENTS
    decoder_channels: tuple[int, ...] = DECODER_CHANNELS
    classifier_blocks: tuple[int, ...] = (6, 12, 24, 16)
    steps: int = 1000
    our_steps: int = 25


def paper_weights(folder: Path | None, seed: int) -> dict[str, torch.Tensor]:
    """The denoiser's tensors: of a folder that `xray2ctpa convert` wrote, or at random.

    Raises:
        BundleError: ``folder`` holds no such network.
    """
    return random_weights(seed) if folder is None else load_denoiser(folder).state_dict()


def given(scale: Scale, seed: int, device: torch.device) -> Given:
    """(latents (1, C, D, H, W), timestep (1,), embedding (1, EMBEDDING)) of both sides."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(1, *scale.latents, generator=generator)
    embedding = torch.nn.functional.normalize(torch.randn(1, EMBEDDING, generator=generator))
    return sample.to(device), torch.tensor([500], device=device), embedding.to(device)


def noise_schedule() -> DDPMScheduler:
    """The release's: cosine, epsilon, the clean estimate clipped to [-1, 1], posterior variance."""
    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        clip_sample=True,
        variance_type="fixed_small",
    )


def reference_pass(weights: dict[str, torch.Tensor], inputs: Given) -> Callable[[], torch.Tensor]:
    """One pass of the release's structure, eager and in single precision, and one ancestral step."""
    device = inputs[0].device
    placed = {name: tensor.float().to(device) for name, tensor in weights.items()}
    scheduler = noise_schedule()
    generator = torch.Generator(device).manual_seed(0)

    def run() -> torch.Tensor:
        with torch.no_grad():
            noise = released_unet(placed, *inputs)
            scheduler.step(noise, int(inputs[1][0]), inputs[0], generator=generator)
        return noise

    return run


def our_network(weights: dict[str, torch.Tensor], precision: str, device: torch.device) -> PaperDenoiser:
    """Our network with these tensors, in evaluation mode."""
    network = PaperDenoiser()
    network.load_state_dict(weights)
    return network.eval().to(device, DTYPES[precision])


def our_pass(network: PaperDenoiser, inputs: Given) -> Callable[[], torch.Tensor]:
    """One pass of ours; the sampler's arithmetic is the scheduler's and counts as nothing."""
    sample, timestep, embedding = inputs
    dtype = network.dtype

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return network(sample.to(dtype), timestep, embedding.to(dtype)).float()

    return run


def papers_decoder(scale: Scale, seed: int) -> AutoencoderKL:
    """The papers' autoencoder with random weights: what it costs does not depend on them."""
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
    """(N, C, h, w) -> (N, H, W) HU, slice by slice and through 8-bit grey, as the release does."""
    volume = []
    with torch.no_grad():
        for one in slices:
            image = from_autoencoder(autoencoder.decode(one[None]).sample)[0, 0]
            grey = ((image + 1) / 2 * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
            volume.append(torch.from_numpy(grey.astype(np.float32)) / 255 * 2 - 1)
    return denormalise_hu(torch.stack(volume), PAPER_HU_WINDOW)


def our_decode(autoencoder: AutoencoderKL, slices: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) -> (N, H, W) HU, all at once and in floating point, as the pipeline does."""
    with torch.inference_mode():
        images = from_autoencoder(autoencoder.decode(slices.to(autoencoder.dtype)).sample.float())[:, 0]
        return denormalise_hu(images.clamp(-1, 1), PAPER_HU_WINDOW).cpu()


def child_environment(threads: int) -> dict[str, str]:
    """This process's environment for a child that computes with so many threads."""
    return os.environ | {"OMP_NUM_THREADS": str(threads)}


def precisions(names: Sequence[str]) -> dict[str, str]:
    """Name of each of our sides -> its precision."""
    return {f"ours {name}": name for name in names}
