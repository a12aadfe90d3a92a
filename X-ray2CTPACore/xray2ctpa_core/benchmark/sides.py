"""The two sides of the comparison: the papers' network as released and as ours, with the same weights."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.benchmark.released_reference import random_weights, released_unet
from xray2ctpa_core.diffusion.schedulers import make_scheduler, papers_schedule
from xray2ctpa_core.explanation.gradcam import gradcam_map
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.denoisers.captured import CapturedDenoiser
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.pipelines.device import DTYPES, set_arithmetic
from xray2ctpa_core.pipelines.loading import load_denoiser

#: (C, D, H, W) of the papers' latents, and the length of the radiograph's embedding.
LATENTS, EMBEDDING = (4, 64, 32, 32), 512
#: Levels of the papers' autoencoder (sd-vae-ft-mse, KL-f8): 32 x 32 latents make 256 x 256 pixels.
DECODER_CHANNELS = (128, 256, 512, 512)
REFERENCE = "reference fp32"
#: Suffix of the name of a side whose pass is captured.
CAPTURED = " captured"

Given = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Scale:
    """Sizes of everything; the defaults are the papers'. Smaller ones are for trying the code.

    Attributes:
        latents: (C, D, H, W), H and W multiples of 8.
        decoder_channels: of the autoencoder's levels, each of which, except the last, halves the slice.
        classifier_blocks: numbers of layers in the latent classifier's dense blocks.
        steps: passes of the reference (DDPM).
        our_steps: passes of ours (DPM-Solver++).
        tiny_width, tiny_blocks: of the tiny decoder (networks.tiny_decoder).
    """

    latents: tuple[int, int, int, int] = LATENTS
    decoder_channels: tuple[int, ...] = DECODER_CHANNELS
    classifier_blocks: tuple[int, ...] = (6, 12, 24, 16)
    steps: int = 1000
    our_steps: int = 25
    tiny_width: int = 64
    tiny_blocks: tuple[int, ...] = (3, 3)

    @property
    def factor(self) -> int:
        """Pixels of a slice per cell of its latents, along one axis."""
        return 2 ** (len(self.decoder_channels) - 1)


#: As small as the code allows, for trying the benchmark; its numbers then mean nothing.
TRIAL = Scale((4, 8, 16, 16), (8, 8, 8, 8), (1, 1), 1000, 10, 8, (1, 1))


def paper_weights(folder: Path | None, seed: int) -> dict[str, torch.Tensor]:
    """The denoiser's tensors, from a folder that `xray2ctpa convert` wrote, or random ones.

    Raises:
        BundleError: ``folder`` holds no such network.
    """
    return random_weights(seed) if folder is None else load_denoiser(folder).state_dict()


def given(scale: Scale, seed: int, device: torch.device) -> Given:
    """Input of both sides: latents (1, C, D, H, W), timestep (1,), embedding (1, EMBEDDING)."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(1, *scale.latents, generator=generator)
    embedding = torch.nn.functional.normalize(torch.randn(1, EMBEDDING, generator=generator))
    return sample.to(device), torch.tensor([500], device=device), embedding.to(device)


def noise_schedule() -> DDPMScheduler:
    """The release's schedule: cosine, epsilon, the clean estimate clipped to [-1, 1], posterior variance."""
    return DDPMScheduler.from_config(papers_schedule().config, clip_sample=True, variance_type="fixed_small")


def reference_pass(weights: dict[str, torch.Tensor], inputs: Given) -> Callable[[], torch.Tensor]:
    """One pass of the released structure, eager and in single precision, and one ancestral step."""
    device = inputs[0].device
    placed = {name: tensor.float().to(device) for name, tensor in weights.items()}
    scheduler = noise_schedule()
    generator = torch.Generator(device).manual_seed(0)

    def run() -> torch.Tensor:
        set_arithmetic("fp32")
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


def classifier(scale: Scale) -> PEClassifier:
    """The papers' latent classifier with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PEClassifier(
            scale.latents[0], 64, 32, scale.classifier_blocks, norm="batch", first_stride=(1, 2, 2)
        ).eval()


def explanation(device: torch.device, scale: Scale) -> Callable[[], object]:
    """The latent classifier with Grad-CAM; the same code for every side."""
    network = classifier(scale).to(device)
    latents = torch.randn(1, *scale.latents, device=device)
    _, depth, height, width = scale.latents
    grid = (depth, scale.factor * height, scale.factor * width)
    return lambda: gradcam_map(network, network.gradcam_layer, latents, grid)


def our_pass(
    network: PaperDenoiser, inputs: Given, precision: str = "fp32", captured: CapturedDenoiser | None = None
) -> Callable[[], torch.Tensor]:
    """One pass of ours, and the next step of DPM-Solver++.

    Args:
        network, inputs: of this side.
        precision: how a GPU multiplies.
        captured: computes the pass instead of the network.
    """
    sample, timestep, embedding = inputs
    dtype = network.dtype
    predict = captured or network
    scheduler, steps = make_scheduler("dpm++", noise_schedule()), Scale().our_steps

    def run() -> torch.Tensor:
        set_arithmetic(precision)
        with torch.inference_mode():
            noise = predict(sample.to(dtype), timestep, embedding.to(dtype)).float()
            if scheduler.step_index in (None, steps):
                scheduler.set_timesteps(steps, device="cpu")
            scheduler.step(noise, scheduler.timesteps[scheduler.step_index or 0], sample)
        return noise

    return run


def child_environment(threads: int) -> dict[str, str]:
    """This process's environment, for a child process that computes with so many threads."""
    return os.environ | {"OMP_NUM_THREADS": str(threads)}


def our_sides(device: torch.device) -> dict[str, str]:
    """Name of each of our sides on a device -> its precision."""
    names = ["fp32", "bf16"]
    if device.type == "cuda":
        names = ["fp32", "tf32", "bf16", "fp16", *(name + CAPTURED for name in ("fp32", "tf32", "bf16"))]
    return {f"ours {name}": name.removesuffix(CAPTURED) for name in names}
